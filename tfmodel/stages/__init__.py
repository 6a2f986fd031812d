"""The stages of a run: what each depends on, what it does, and what shows that it was done.

One file a stage, `STAGES` in their order. Which of them rest is `pipeline`'s to say.
"""

from tfmodel.stages.context import Context, Stage, read_if_there
from tfmodel.stages.data import DATA, PAGE_FILE, write_page
from tfmodel.stages.evaluate import EVALUATE, EVALUATION_FILE
from tfmodel.stages.export import EXPORT
from tfmodel.stages.finetune import FINETUNE, HISTORY_FILE, train_along, training_under_way
from tfmodel.stages.label_noise import ISSUES_FILE, LABEL_NOISE, LABEL_NOISE_FILE
from tfmodel.stages.workers import dismiss_workers, join_workers

STAGES = (DATA, LABEL_NOISE, FINETUNE, EVALUATE, EXPORT)
BY_NAME = {stage.name: stage for stage in STAGES}

__all__ = [
    "BY_NAME",
    "EVALUATION_FILE",
    "HISTORY_FILE",
    "ISSUES_FILE",
    "LABEL_NOISE_FILE",
    "PAGE_FILE",
    "STAGES",
    "Context",
    "Stage",
    "dismiss_workers",
    "join_workers",
    "read_if_there",
    "train_along",
    "training_under_way",
    "write_page",
]
