"""Hidden states to answers: one module a task, all with the same names.

What a task is to everything that trains, measures, exports and asks it:

- `build(encoder, **head_arguments(labels, targets), dropout=…)`: the model, encoder batch to
  outputs; `output_labels(labels)`: the name of each output.
- `targets(rows, labels)`, `loss`, `metrics`: labels of a data set to what the loss takes, the
  loss, and what is summed batch by batch while it trains. `dev_figures(targets, outputs)`, where
  there is one: figures that need a whole part. `TASKS` says which of them can choose the epoch.
- `tuned(targets, values)`, where there is one: what is decided on dev once the weights are; it is
  kept in the model folder, travels with every artifact, and is the `decoding` below.
- `calibrate(model, targets, values)`, where there is one: changes the head by dev, so that its
  scores mean what they say.
- `activate` in a graph, `values` outside of it: outputs to what every artifact gives and parity
  compares, the values. `ANSWERS` says what kind of values they are, and so how they are compared.
- `served(values, labels, **decoding)`: the named outputs of a SavedModel, which are `SERVED`; the
  one called `VALUES` is the values. `decode(values, labels, **decoding)`: answers as `predict`
  gives them.
- `evaluate(targets, values, labels, **rows, **decoding)`: every figure of a part, with its
  `mistakes`, whose columns are `MISTAKE`; `pictures` and `described`: what a training shows of its
  dev rows.
- Where rows are learned in pieces, `examples(tokenizer, split, max_length=…, **decoding)`: the
  windows of a split, their targets, and the way from their outputs back to values of rows.
- Where the rows of a part say more than their labels: `targets_of(split)` in place of `targets`,
  `token_rows(tokenizer, split, max_length=…)` for how they are read, `answers_of(predictor, split)`
  for the values that `evaluate` takes, and `asked(split)`, the rows that an artifact is asked.
  `NEEDS_SEQUENCE`: whether `build` wants all hidden states.
- Where a config says more of a task than its name: `own_head(options, folder)` and
  `loss_arguments(options, targets)`, what `build` and `loss` take beside.
- `TITLE`, `GIVES` and `SAYS`: what a file for phones says of itself: its name, what it gives (of so
  many outputs), what the numbers are.
- `save` and `load`: a Hugging Face folder with `ARCHITECTURE`, which is what BERT's is called
  (`tfmodel.model.families` says what that of another family is), and `PROBLEM_TYPE`.

A task with `READS_TOKENS` answers by the tokens of windows over a text
(`tfmodel.tokens.windows`), outputs (B, T, C), not by one vector of it. Its values are a list, one
item a text, and of it:

- `learned(windows, tokenizer, targets, labels)`: targets and weights of the tokens.
- `read(windows, tokenizer, scores)`: what a model says of each token to values;
  `values_of_served(outputs)`: what a SavedModel gives to values.
- `dev_figures(targets, values, labels)` and `decode(values, labels, texts=…)` take values.
- `ORDER`: of the batches it is trained on, where that is not `random` (`tfmodel.tokens.batches`).
- `chain_of(model)`, where words are learned together: the layer that knows how; `loss(chain=…)` and
  `learned(…, crf=True)` go with it, and its `decoding()` with all that takes values.

A task of `UNLABELLED` is learned from text alone, by pretraining: nothing of the above that takes
labels. `fill` has, with its values a list too, `served(found, …)` of what `tfmodel.export.gaps`
computes, `notice(values, texts, …)`: what is to be said of texts it could not answer, and
`decoding_of(tokenizer)`: what of `decoding` the tokenizer decides.

A new task is its module, its entry in `TASKS`, its page in `tfmodel.report`, its words in
`tfmodel.export.card`, and a row in `tests/test_task_contract.py`.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Task:
    """What a config must know of a task before anything heavy is imported.

    Attributes:
        name: `task.name` in a config.
        target: `data.target`: the labels that it learns.
        figures: dev figures that can choose the epoch, the natural one first.
        foreign: keys of a config that mean nothing to it.
        headless: keys that mean nothing to it because its answers are vectors, without a head.
        module: its module here; by default that of its key.
        needs_pairs: whether every row must have two texts, of which each is read by itself.
        pairs: whether a row may be two texts.
    """

    name: str
    target: str
    figures: tuple[str, ...]
    foreign: tuple[str, ...] = ()
    headless: tuple[str, ...] = ()
    module: str = ""
    needs_pairs: bool = False
    pairs: bool = True


OF_ONE_CLASS = (
    "train.class_weights",
    "train.calibrate",
    "train.few_labels",
    "train.regularize.label_smoothing",
    "train.regularize.focal_gamma",
    "train.regularize.class_balance",
    "data.label_noise",
    "data.none_label",
)

_OF_WINDOWS = ("task.doc_stride", "task.max_query_length", "task.max_answer_length")
_OF_ONE_VECTOR = (
    "train.regularize.mixup",
    "train.regularize.r_drop",
    "data.augment",
    "export.tflite_vector",
    "export.tflite_length",
    "export.savedmodel_precision",
    "export.keras_hub",
)

_OF_VECTORS = {
    "foreign": (*OF_ONE_CLASS, *_OF_WINDOWS),
    "headless": (
        "train.dropout",
        "train.regularize.r_drop",
        "train.regularize.mixup",
        "export.tflite_vector",
    ),
    "module": "embed",
    "needs_pairs": True,
}
_OF_RETRIEVAL = ("recall_at_10", "recall_at_1", "mrr", "loss")

TASKS = {
    "classify": Task(
        "classify",
        "class",
        figures=("accuracy", "loss"),
        foreign=_OF_WINDOWS,
    ),
    "multilabel": Task(
        "classify",
        "classes",
        figures=("micro_f1", "macro_f1", "loss"),
        foreign=(*OF_ONE_CLASS, *_OF_WINDOWS),
    ),
    "regress": Task(
        "regress",
        "number",
        figures=("spearman", "pearson", "loss"),
        foreign=(*OF_ONE_CLASS, *_OF_WINDOWS),
    ),
    "span": Task(
        "span",
        "answers",
        figures=("f1", "exact_match", "loss"),
        foreign=(*OF_ONE_CLASS, *_OF_ONE_VECTOR),
    ),
    "tag": Task(
        "tag",
        "spans",
        figures=("f1", "loss"),
        foreign=(*OF_ONE_CLASS, *_OF_WINDOWS, "train.regularize.mixup", "export.keras_hub"),
        pairs=False,
    ),
    "embed": Task("embed", "none", figures=_OF_RETRIEVAL, **_OF_VECTORS),
    "embed_triplets": Task("embed", "text", figures=_OF_RETRIEVAL, **_OF_VECTORS),
    "embed_scored": Task("embed", "number", ("spearman", "pearson", "loss"), **_OF_VECTORS),
}
"""The tasks there are; each is the module of this name, or the one that it names."""

NAMES = tuple(dict.fromkeys(task.name for task in TASKS.values()))
"""What `task.name` may be."""

UNLABELLED = ("fill",)
"""Tasks that answer by what was learned in pretraining, from text without labels."""

ANSWERING = (*TASKS, *UNLABELLED)
"""Every task that a model folder or an artifact may be of."""

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

__all__ = [
    "ANSWERING",
    "NAMES",
    "OBJECTIVES",
    "TASKS",
    "UNLABELLED",
    "Task",
    "decoding_of",
    "fills_gaps",
    "find",
    "find_objective",
    "gives_lists",
    "gives_vectors",
    "learning",
    "load_model",
    "reads_tokens",
    "right_answers",
]


def find(name: str):
    """The module of a task.

    Args:
        name: one of `ANSWERING`.

    Raises:
        ConfigError: no such task.
    """
    if name in UNLABELLED:
        return importlib.import_module(f"tfmodel.tasks.{name}")
    if name not in TASKS:
        raise ConfigError(f"task.name must be one of {', '.join(NAMES)}. Received: {name!r}.")
    return importlib.import_module(f"tfmodel.tasks.{TASKS[name].module or name}")


def gives_vectors(name: str) -> bool:
    """Whether the answers of a task are vectors, without names."""
    return find(name).VALUES == "vector"


def reads_tokens(name: str) -> bool:
    """Whether a task answers by the tokens of windows over a text, not by one vector a row."""
    return getattr(find(name), "READS_TOKENS", False)


def gives_lists(name: str) -> bool:
    """Whether a task's values are a list, one item a text, and no array."""
    return find(name).ANSWERS in ("spans", "gaps")


def fills_gaps(name: str) -> bool:
    """Whether a task answers by what may stand in the gaps of a text."""
    return find(name).ANSWERS == "gaps"


def decoding_of(name: str, tokenizer: Any, decoding: Mapping[str, Any] | None) -> dict[str, Any]:
    """What answers are decoded by, with what the tokenizer decides of it.

    Args:
        name: the task.
        tokenizer: the model's.
        decoding: what is known; it goes before what the tokenizer says.
    """
    own = getattr(find(name), "decoding_of", lambda tokenizer: {})
    return {**own(tokenizer), **(decoding or {})}


def learning(target: str, *, name: str | None = None) -> str | None:
    """The task that learns a kind of label.

    Args:
        target: what a label is, as `data.target` calls it.
        name: what `task.name` it has; by default any.

    Returns:
        Its key in `TASKS`; None where there is none.
    """
    fitting = (key for key, task in TASKS.items() if task.target == target)
    return next((key for key in fitting if name in (None, TASKS[key].name)), None)


def right_answers(task, split, labels):
    """What `evaluate` and the like compare answers with: a task's `targets` of a split.

    Args:
        task: the task's module.
        split: its rows.
        labels: the names of the labels.
    """
    if hasattr(task, "targets_of"):
        return task.targets_of(split)
    if task.ANSWERS == "span":  # an answer is compared as its context's language has it
        return task.targets(split.labels, labels, text_pairs=split.text_pairs)
    return task.targets(split.labels, labels)


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
        folder: a Hugging Face model folder with a task head, or one of sentence-transformers.
        dtype: Keras dtype policy to build with.

    Returns:
        The task's loaded model: `model`, `tokenizer`, `labels`, `task`, `has_pairs`,
        `max_length`.

    Raises:
        ConfigError: not a model folder, or a head that no task here has.
    """
    from tfmodel.model.checkpoints import CONFIG_FILE, read_config
    from tfmodel.model.families import FAMILIES, family_of
    from tfmodel.model.sentence_folders import MODULES_FILE
    from tfmodel.tasks.sequence_head import has_own_reading

    if has_own_reading(folder):
        return find("classify").load(folder, dtype=dtype)
    if (Path(folder) / MODULES_FILE).is_file():
        return find("embed").load(folder, dtype=dtype)
    from tfmodel.tasks.sequence_head import problem_type_of

    config = read_config(folder)
    family = FAMILIES[family_of(config, name=f"{folder}/{CONFIG_FILE}")]
    architectures = config.get("architectures") or ["none named"]
    known = [find(name) for name in ANSWERING if not gives_vectors(name)]
    fitting = [
        task
        for task in known
        if {*map(family.named, (task.ARCHITECTURE, *getattr(task, "ALSO", ())))} & {*architectures}
    ]
    if not fitting:
        names = ", ".join(dict.fromkeys(family.named(task.ARCHITECTURE) for task in known))
        raise ConfigError(
            f"{folder}: expected a fine-tuned model ({names}). Received: "
            f"{', '.join(architectures)}. An encoder without a head answers nothing: fine-tune it "
            "with tfmodel finetune, or read sentence vectors with tm.tasks.embed.load."
        )
    # Several tasks may share an architecture; where none has this problem type, the first says so.
    kind = problem_type_of(config)
    chosen = next((task for task in fitting if kind == task.PROBLEM_TYPE), fitting[0])
    return chosen.load(folder, dtype=dtype)


def __getattr__(name: str):
    """Import a task's module when it is first used, as `tasks.classify`."""
    if name in (*TASKS, *OBJECTIVES.values()):
        return find(name) if name in TASKS else importlib.import_module(f"tfmodel.tasks.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
