"""The pages' words for the answers of each task: a module with the same functions."""

from tfmodel.report import classification, labelling, regression

OF_TASK = {"classify": classification, "multilabel": labelling, "regress": regression}
"""By the task's name: `view`, `facts`, `dev_fact` and `lines`."""
