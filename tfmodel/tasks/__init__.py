"""Hidden states to answers: one module a task, all with the same functions.

A task module has `build` (encoder to model), `targets` (labels to what the loss takes),
`loss`, `metrics`, `decode` (model outputs to answers), `save` and `load` (model folder).
"""

import importlib

from tfmodel.config import ConfigError

TASKS = ("classify",)
"""The tasks there are; each is the module of this name."""

OBJECTIVES = {
    "mlm": "fill",
    "nsp": "pair",
    "sop": "pair",
    "electra": "electra",
    "simcse": "simcse",
}
"""The module of each objective of pretraining: what is learned from text alone.

Such a module has `build` and `save`, and of the loss `TERMS`, `counts` and `sums`.
"""

__all__ = ["OBJECTIVES", "TASKS", "find", "find_objective", "load_model"]


def find(name: str):
    """The module of a task.

    Args:
        name: one of `TASKS`.

    Raises:
        ConfigError: no such task.
    """
    if name not in TASKS:
        raise ConfigError(f"task.name must be one of {', '.join(TASKS)}. Received: {name!r}.")
    return importlib.import_module(f"tfmodel.tasks.{name}")


def find_objective(name: str):
    """The module of an objective of pretraining.

    Args:
        name: one of `OBJECTIVES`.

    Raises:
        ConfigError: no such objective.
    """
    if name not in OBJECTIVES:
        raise ConfigError(
            f"objective.name must be one of {', '.join(OBJECTIVES)}. Received: {name!r}."
        )
    return importlib.import_module(f"tfmodel.tasks.{OBJECTIVES[name]}")


def load_model(folder, *, dtype: str = "float32"):
    """Load a fine-tuned model folder, whatever its task.

    Args:
        folder: a Hugging Face model folder with a task head.
        dtype: Keras dtype policy to build with.

    Returns:
        The task's loaded model: `model`, `tokenizer`, `labels`, `task`, `has_pairs`,
        `max_length`.

    Raises:
        ConfigError: not a model folder, or a head that no task here has.
    """
    from tfmodel.model.checkpoints import read_config

    architectures = read_config(folder).get("architectures") or ["none named"]
    for name in TASKS:
        task = find(name)
        if task.ARCHITECTURE in architectures:
            return task.load(folder, dtype=dtype)
    known = ", ".join(find(name).ARCHITECTURE for name in TASKS)
    raise ConfigError(
        f"{folder}: expected a fine-tuned model ({known}). Received: {', '.join(architectures)}. "
        "An encoder without a head answers nothing: fine-tune it with tfmodel finetune."
    )


def __getattr__(name: str):
    """Import a task's module when it is first used, as `tasks.classify`."""
    if name in (*TASKS, *OBJECTIVES.values()):
        return importlib.import_module(f"tfmodel.tasks.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
