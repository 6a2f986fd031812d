"""Task heads in Google's BERT checkpoints: which there is, and what the files do not say of it.

`run_classifier.py` and `run_squad.py` leave a checkpoint and nothing beside it: what Hugging Face's
`config.json` says of a head is read from the names of its variables, and from a `labels.txt` that
the user writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.model.google_checkpoints import CONFIG_FILE, find_checkpoint, read_shapes

LABELS_FILE = "labels.txt"
_CLASSIFIER = "output_weights"
_HEADS = {
    _CLASSIFIER: "BertForSequenceClassification",
    "cls/squad/output_weights": "BertForQuestionAnswering",
    "cls/seq_relationship/output_weights": "BertForPreTraining",
    "cls/predictions/output_bias": "BertForMaskedLM",
}
"""The architecture by a variable that it alone has; the first that is there."""
_THEIRS = {
    "classifier.weight": _CLASSIFIER,
    "classifier.bias": "output_bias",
    "qa_outputs.weight": "cls/squad/output_weights",
    "qa_outputs.bias": "cls/squad/output_bias",
}
_SCRIPTS = {"classifier.": "run_classifier.py", "qa_outputs.": "run_squad.py"}


def is_googles(folder: Path) -> bool:
    """Whether a model folder is one of google-research/bert."""
    return (folder / CONFIG_FILE).is_file() and not (folder / "config.json").exists()


def with_head(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Google's config as Hugging Face's would be: with the head that the checkpoint has.

    Args:
        values: what stands in `bert_config.json`; keys of Hugging Face's that a user wrote there
            (`id2label`, `problem_type`, `tfmodel`) stay.
        folder: it, the checkpoint, and `labels.txt`: the label of each output, one a line.

    Returns:
        `values` with `architectures`, and of a classifier `problem_type` (one output is a number)
        and `id2label`, where there are labels.

    Raises:
        ConfigError: damaged or several checkpoints, or a `labels.txt` that cannot be read.
    """
    checkpoint = find_checkpoint(folder)
    if checkpoint is None:
        return dict(values)
    shapes = read_shapes(checkpoint)
    head = next((name for name in _HEADS if name in shapes), None)
    found = {"architectures": ["BertModel" if head is None else _HEADS[head]]}
    if head == _CLASSIFIER:
        is_number = shapes[head][:1] == (1,)
        found["problem_type"] = "regression" if is_number else "single_label_classification"
        if labels := _labels(folder / LABELS_FILE):
            found["id2label"] = {str(index): label for index, label in enumerate(labels)}
    return {**found, **values}


def _labels(path: Path) -> list[str]:
    if not path.is_file():
        return []
    try:
        labels = path.read_text("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected UTF-8 text, one label a line. Received: a byte that is none at "
            f"position {error.start}. Save it as UTF-8."
        ) from None
    labels = [label.strip() for label in labels]
    wrong = next((each for each in labels if not each or labels.count(each) > 1), None)
    if wrong is not None:
        raise ConfigError(
            f"{path}: expected one label a line, each once and none empty. Received: "
            f"{f'{wrong!r} twice' if wrong else 'an empty line'}. Write one for each output, in "
            "the order of the script's get_labels()."
        )
    return labels


def require_labels(config: Mapping[str, Any], outputs: int, folder: Path) -> None:
    """Refuse a classifier of Google's without a name for each output.

    Args:
        config: from `read_config`.
        outputs: rows of `output_weights`.
        folder: the model folder; another than Google's has names of its own.

    Raises:
        ConfigError: there are none, or not as many; what to write is said.
    """
    named = config.get("id2label") or {}
    if not is_googles(folder) or len(named) == outputs:
        return
    received = f"{len(named)} ({', '.join(map(str, named.values()))[:80]})" if named else "none"
    raise ConfigError(
        f"{folder}: expected the names of the {outputs} labels, one for each row of "
        f"{_CLASSIFIER}: a checkpoint has none. Received: {received}. Write them to "
        f"{folder / LABELS_FILE}, one a line, in the order of get_labels() in run_classifier.py. "
        f"Where it was trained on pairs, add to {CONFIG_FILE}: "
        '"tfmodel": {"has_pairs": true, "max_length": 128}.'
    )


def head_name(name: str, folder: Path) -> str:
    """What messages call a head's tensor: the owner's name, of a folder of Google's."""
    return _THEIRS.get(name, name) if is_googles(folder) else name


def head_of_script(name: str, folder: Path) -> str:
    """` of run_classifier.py`, say, behind what a folder of Google's lacks; else nothing."""
    script = next((each for key, each in _SCRIPTS.items() if name.startswith(key)), None)
    return f" of {script}" if script and is_googles(folder) else ""
