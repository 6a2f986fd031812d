"""A tiny classifier whose scores depend on its text, built once and exported once."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from made_once import made_once

from tfmodel.export import export_savedmodel, export_tflite_variants, predictor_of
from tfmodel.export.predictor import Predictor
from tfmodel.model.encoder import build_encoder
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks import classify
from tfmodel.tokens import Tokenizer, Vocabulary

LABELS = ["bad", "so-so", "good"]
MAX_LENGTH = 16
WORDS = ["good", "bad", "movie", "the", "was", "very", "kite", "zoo", "电影", "好", "坏", "café"]


@dataclasses.dataclass(frozen=True)
class Tiny:
    """A classifier, and texts that it tells apart."""

    model: keras.Model
    tokenizer: Tokenizer
    texts: list[str]
    text_pairs: list[str] | None
    reference: Predictor

    @property
    def described(self) -> dict:
        """What every export function wants to know of it."""
        return {
            "labels": LABELS,
            "max_length": MAX_LENGTH,
            "has_pairs": self.text_pairs is not None,
        }

    @property
    def scores(self) -> np.ndarray:
        """What the Keras model says to its texts."""
        return self.reference.probabilities(self.texts, self.text_pairs)


def tiny_vocabulary() -> list[str]:
    """All letters, so that every word has pieces, and a few words."""
    letters = list(string.ascii_lowercase)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = ["good", "bad", "movie", "the", "was", "very", "电", "影", "好", "坏", ".", ","]
    return [*special, *letters, *("##" + letter for letter in letters), *words]


def make_tiny(*, pairs: bool = False, seed: int = 0) -> Tiny:
    """Build a classifier with 2 layers and D 32."""
    pieces = tiny_vocabulary()
    config = BertConfig(
        vocabulary_size=len(pieces),
        hidden_size=32,
        layers=2,
        heads=2,
        intermediate_size=64,
        max_positions=24,
    )
    keras.utils.set_random_seed(seed)
    model = classify.build(build_encoder(config, sequence=False), classes=len(LABELS))
    head = model.get_layer("head")
    small = keras.initializers.TruncatedNormal(stddev=0.02, seed=head.kernel_initializer.seed)
    head.kernel.assign(small(head.kernel.shape))  # the noise alone decides
    generator = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        # Random weights as small as a new model's mix the tokens away.
        if not weight.path.endswith("gamma"):
            noise = generator.normal(size=weight.shape, scale=0.2)
            weight.assign(weight.numpy() + noise.astype(np.float32))
    tokenizer = Tokenizer(Vocabulary(pieces), max_length=MAX_LENGTH)
    draw = lambda: " ".join(generator.choice(WORDS, generator.integers(1, 12)))  # noqa: E731
    texts = [draw() for _ in range(60)]
    text_pairs = [draw() for _ in texts] if pairs else None
    _spread_scores(model, tokenizer(texts, text_pairs))
    reference = predictor_of(
        model, tokenizer, labels=LABELS, max_length=MAX_LENGTH, has_pairs=pairs
    )
    return Tiny(model, tokenizer, texts, text_pairs, reference)


def _spread_scores(model: keras.Model, batch: dict) -> None:
    """Scale the head until the rows of a batch get different labels."""
    logits = model(batch, training=False).numpy()
    head = model.get_layer("head")
    scale = 2 / logits.std(axis=0)
    head.kernel.assign(head.kernel.numpy() * scale)
    head.bias.assign((head.bias.numpy() - logits.mean(axis=0)) * scale)


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """A classifier of single texts; not to be changed."""
    return make_tiny()


@pytest.fixture(scope="session")
def tiny_pairs() -> Tiny:
    """A classifier of pairs; not to be changed."""
    return make_tiny(pairs=True)


@pytest.fixture(scope="session")
def another() -> Callable[..., Tiny]:
    """Make classifiers that a test may spoil."""
    return make_tiny


@pytest.fixture(scope="session")
def exported(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`savedmodel/1` and `tflite/<variant>.tflite` of the tiny classifier; not to be changed."""

    def make(folder: Path) -> None:
        export_savedmodel(tiny.model, tiny.tokenizer, folder / "savedmodel", **tiny.described)
        export_tflite_variants(
            tiny.model,
            tiny.tokenizer,
            folder / "tflite",
            variants=["float32", "float16", "int8"],
            **tiny.described,
        )

    return made_once(tmp_path_factory, "exported", make)
