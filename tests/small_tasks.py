"""A tiny model of every task, which nothing taught, exported as SavedModel; and rows to ask it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import string
from pathlib import Path
from typing import Any

LABELS = ["bad", 'so "so" é]', "good"]
TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
MAX_LENGTH = 16
WORDS = "the cat sat on a mat in rome with good bad movie".split()
LONG = " ".join(itertools.islice(itertools.cycle(WORDS[:8]), 60))
TEXTS = ["the movie was good", "a cat, a mat", "Zoë 😀 in Rome.", LONG]
QUESTIONS = ["who ?", "where in rome", "🙂 who", "what sat on a mat ?"]
DECODING = {"doc_stride": 5, "max_query_length": 4, "max_answer_length": 3}


@dataclasses.dataclass(frozen=True)
class ExportedTask:
    """A task's export.

    Attributes:
        name: of `tasks.TASKS`.
        base: the folder with version 1.
        columns: rows of texts, one column an input.
    """

    name: str
    base: Path
    columns: dict[str, list[str]]

    @property
    def version(self) -> Path:
        return self.base / "1"

    def inputs(self, signature: Any) -> dict[str, list]:
        """Columns for the inputs of a signature."""
        ids = {
            "token_ids": [[2, 7, 9, 3], [2, 8, 3, 0]],
            "segment_ids": [[0, 0, 0, 0], [0, 0, 0, 0]],
            "padding_mask": [[1, 1, 1, 1], [1, 1, 1, 0]],
        }
        limits = [5, 9, 16, 16]
        known = {**self.columns, **ids, "max_length": limits}
        return {name: known[name] for name in signature}


def write_exports(folder: Path) -> None:
    """Export a model of each task below a folder."""
    from tfmodel.export import export_savedmodel
    from tfmodel.tasks import TASKS

    tokenizer = _tokenizer()
    for name, (model, described) in _models(tokenizer).items():
        assert name in TASKS
        described = {"labels": LABELS, "max_length": MAX_LENGTH, "task": name, **described}
        export_savedmodel(model, tokenizer, folder / name, **described)


def exports(folder: Path) -> dict[str, ExportedTask]:
    """What `write_exports` left, by the names of tasks."""
    asked = {"span": {"text": QUESTIONS, "text_pair": TEXTS}}
    bases = sorted(base for base in folder.iterdir() if base.is_dir())
    return {
        base.name: ExportedTask(base.name, base, asked.get(base.name, {"text": TEXTS}))
        for base in bases
    }


def _tokenizer() -> Any:
    from tfmodel.tokens import Tokenizer, Vocabulary

    letters = [*string.ascii_lowercase]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *WORDS, *(each for each in letters if each not in WORDS)]
    pieces += [*(f"##{letter}" for letter in letters), ".", ",", "?"]
    return Tokenizer(Vocabulary(pieces), max_length=MAX_LENGTH)


def _models(tokenizer: Any) -> dict[str, tuple[Any, dict]]:
    import keras

    from tfmodel.model import BertConfig, build_encoder
    from tfmodel.tasks import classify, embed, multilabel, regress, span, tag

    keras.utils.set_random_seed(0)
    shape = BertConfig(
        vocabulary_size=len(tokenizer.vocabulary),
        hidden_size=32,
        layers=1,
        heads=2,
        intermediate_size=48,
        max_positions=24,
    )
    encoder = functools.partial(build_encoder, shape)
    models = {
        "classify": (classify.build(encoder(sequence=False), classes=3), {}),
        "multilabel": (multilabel.build(encoder(sequence=False), classes=3), {}),
        "regress": (
            regress.build(encoder(sequence=False), mean=20.0, scale=8.0),
            {"labels": ["score"]},
        ),
        "tag": (tag.build(encoder(), tags=len(TAGS)), {"labels": TAGS}),
        "span": (
            span.build(encoder()),
            {"labels": ["start", "end"], "has_pairs": True, "decoding": DECODING},
        ),
        "embed": (embed.build(encoder()), {"labels": []}),
    }
    for model, _ in models.values():
        generator = keras.random.SeedGenerator(1)
        for weight in model.trainable_weights:
            if not weight.path.endswith("gamma"):  # a new model's mix the tokens away
                weight.assign_add(keras.random.normal(weight.shape, stddev=0.1, seed=generator))
    return models
