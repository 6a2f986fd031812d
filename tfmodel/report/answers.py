"""The pages' words for the answers of each task: a module with the same functions."""

from types import ModuleType

from tfmodel.report import answering, classification, embedding, labelling, regression, tagging

OF_TASK = {
    "classify": classification,
    "multilabel": labelling,
    "regress": regression,
    "tag": tagging,
    "span": answering,
    "embed": embedding,
    "embed_triplets": embedding,
    "embed_scored": embedding,
}
"""By the task's name: `view`, `facts`, `dev_fact` and `lines`."""


def words_of(task: str) -> ModuleType:
    """The module of a task; of one that is not known here, that of labels."""
    return OF_TASK.get(task, classification)
