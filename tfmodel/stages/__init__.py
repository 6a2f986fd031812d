"""The stages of a run: what each depends on, what it does, and what shows that it was done.

One file a stage. Which of them a run has is its kind's to say, which of them rest `pipeline`'s.
"""

from tfmodel.stages.context import TIMINGS_FILE, Context, Stage, read_if_there
from tfmodel.stages.corpus import CORPUS
from tfmodel.stages.data import DATA, PAGE_FILE, write_page
from tfmodel.stages.evaluate import EVALUATE, EVALUATION_FILE
from tfmodel.stages.export import EXPORT
from tfmodel.stages.fill import EVALUATE_FILLING, EXPORT_FILLING
from tfmodel.stages.finetune import FINETUNE, HISTORY_FILE, check_encoder, check_task, train_along
from tfmodel.stages.label_noise import ISSUES_FILE, LABEL_NOISE, LABEL_NOISE_FILE
from tfmodel.stages.pretrain import PRETRAIN, check_beginning, pretrain_along
from tfmodel.stages.settling import training_under_way
from tfmodel.stages.several import (
    EVALUATE_SEVERAL,
    EXPORT_SEVERAL,
    PREPARE_SEVERAL,
    STAGES_OF_A_TASK,
    TASKS_FOLDER,
    TRAIN_SEVERAL,
    check_tasks,
    tasks_of,
)
from tfmodel.stages.token_documents import TOKENS
from tfmodel.stages.vocabulary import VOCABULARY, VOCABULARY_FIGURES
from tfmodel.stages.workers import dismiss_workers, join_workers

__all__ = [
    "CORPUS",
    "DATA",
    "EVALUATE",
    "EVALUATE_FILLING",
    "EVALUATE_SEVERAL",
    "EVALUATION_FILE",
    "EXPORT",
    "EXPORT_FILLING",
    "EXPORT_SEVERAL",
    "FINETUNE",
    "HISTORY_FILE",
    "ISSUES_FILE",
    "LABEL_NOISE",
    "LABEL_NOISE_FILE",
    "PAGE_FILE",
    "PREPARE_SEVERAL",
    "PRETRAIN",
    "STAGES_OF_A_TASK",
    "TASKS_FOLDER",
    "TIMINGS_FILE",
    "TOKENS",
    "TRAIN_SEVERAL",
    "VOCABULARY",
    "VOCABULARY_FIGURES",
    "Context",
    "Stage",
    "check_beginning",
    "check_encoder",
    "check_task",
    "check_tasks",
    "dismiss_workers",
    "join_workers",
    "pretrain_along",
    "read_if_there",
    "tasks_of",
    "train_along",
    "training_under_way",
    "write_page",
]
