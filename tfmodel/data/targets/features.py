"""How each kind of label is kept in a TFDS folder: its features, and the way there and back.

`encode_*` gives flat lists by feature, the values of a `tf.train.Example`; `decode_*` takes them
back from such lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def class_features(names: Sequence[str]) -> dict[str, Any]:
    """One class a row."""
    import tensorflow_datasets as tfds

    return {"label": tfds.features.ClassLabel(names=list(names))}


def encode_class(label: str, index: Mapping[str, int]) -> dict[str, list]:
    """Give the class's index."""
    return {"label": [index[label]]}


def decode_class(values: Mapping[str, Sequence], names: Sequence[str]) -> str:
    """Give the class's name."""
    return names[values["label"][0]]


def classes_features(names: Sequence[str]) -> dict[str, Any]:
    """Any number of classes a row."""
    return {"labels": _classes(names)}


def encode_classes(label: Sequence[str], index: Mapping[str, int]) -> dict[str, list]:
    """Give the classes' indices."""
    return {"labels": [index[name] for name in label]}


def decode_classes(values: Mapping[str, Sequence], names: Sequence[str]) -> list[str]:
    """Give the classes' names."""
    return [names[number] for number in values["labels"]]


def number_features(names: Sequence[str]) -> dict[str, Any]:
    """One number a row."""
    import numpy as np
    import tensorflow_datasets as tfds

    return {"label": tfds.features.Scalar(np.float32)}


def text_features(names: Sequence[str]) -> dict[str, Any]:
    """One text a row."""
    import tensorflow_datasets as tfds

    return {"label": tfds.features.Text()}


def tags_features(names: Sequence[str]) -> dict[str, Any]:
    """Words, and as many tags."""
    return {"words": _texts(), "tags": _classes(names)}


def encode_tags(label: Mapping[str, Sequence[str]], index: Mapping[str, int]) -> dict[str, list]:
    """Give the words' bytes and the tags' indices."""
    words = [word.encode() for word in label["words"]]
    return {"words": words, "tags": [index[tag] for tag in label["tags"]]}


def decode_tags(values: Mapping[str, Sequence], names: Sequence[str]) -> dict[str, list[str]]:
    """Give words and tags."""
    words = [word.decode() for word in values["words"]]
    return {"words": words, "tags": [names[number] for number in values["tags"]]}


def spans_features(names: Sequence[str]) -> dict[str, Any]:
    """Starts, ends and labels of the spans, in characters of `text`."""
    return {"span_starts": _integers(), "span_ends": _integers(), "span_labels": _classes(names)}


def encode_spans(label: Sequence[Mapping], index: Mapping[str, int]) -> dict[str, list]:
    """Give starts, ends and the indices of the labels."""
    return {
        "span_starts": [span["start"] for span in label],
        "span_ends": [span["end"] for span in label],
        "span_labels": [index[span["label"]] for span in label],
    }


def decode_spans(values: Mapping[str, Sequence], names: Sequence[str]) -> list[dict]:
    """Give the spans."""
    columns = (values["span_starts"], values["span_ends"], values["span_labels"])
    return [
        {"start": int(start), "end": int(end), "label": names[number]}
        for start, end, number in zip(*columns, strict=True)
    ]


def answers_features(names: Sequence[str]) -> dict[str, Any]:
    """Answers and where each starts, in characters of `text_pair`; none: unanswerable."""
    import tensorflow_datasets as tfds

    return {
        "answers_text": _texts(),
        "answers_start": _integers(),
        "id": tfds.features.Text(),
    }


def encode_answers(label: Mapping[str, Any], index: Mapping[str, int]) -> dict[str, list]:
    """Give the answers' bytes and starts, and the question's id."""
    return {
        "answers_text": [answer["text"].encode() for answer in label["answers"]],
        "answers_start": [answer["start"] for answer in label["answers"]],
        "id": [label["id"].encode()],
    }


def decode_answers(values: Mapping[str, Sequence], names: Sequence[str]) -> dict[str, Any]:
    """Give the answers and the id."""
    columns = (values["answers_text"], values["answers_start"])
    answers = [{"text": t.decode(), "start": int(s)} for t, s in zip(*columns, strict=True)]
    return {"answers": answers, "id": values["id"][0].decode()}


def _classes(names: Sequence[str]) -> Any:
    import tensorflow_datasets as tfds

    return tfds.features.Sequence(tfds.features.ClassLabel(names=list(names)))


def _texts() -> Any:
    import tensorflow_datasets as tfds

    return tfds.features.Sequence(tfds.features.Text())


def _integers() -> Any:
    import numpy as np
    import tensorflow_datasets as tfds

    return tfds.features.Sequence(np.int64)
