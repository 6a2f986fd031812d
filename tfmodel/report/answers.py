"""The pages' words for the answers of each task: a module with the same functions."""

from tfmodel.report import classification, regression

OF_TASK = {"classify": classification, "regress": regression}
"""By the task's name: `view`, `facts`, `dev_fact` and `lines`."""
