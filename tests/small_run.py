"""A small encoder, a small data file and the command line, for tests of whole runs."""

from __future__ import annotations

import csv
import random
import string
from pathlib import Path

TOPICS = {
    "business": ["shares", "profit", "bank", "market"],
    "sport": ["goal", "match", "team", "coach"],
    "weather": ["rain", "storm", "cloud", "wind"],
}
_FILLERS = ["the", "then", "was", "on", "monday", "said", "after", "new"]

# Everything by a path relative to the folder of the test, so that a copy of it is whole.
CONFIG = """\
run: runs/small
seed: 3
encoder: encoder
data:
  train: train.csv
train:
  epochs: 4
  learning_rate: 0.01
  warmup_share: 0.5
  batch_size: 16
  max_length: 12
  precision: float32
export:
  tflite: [int8]
"""


def vocabulary() -> list[str]:
    """All letters, so that every word has pieces, and the words of the topics."""
    letters = list(string.ascii_lowercase)
    words = [*_FILLERS, *(word for words in TOPICS.values() for word in words)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return [*special, *letters, *(f"##{letter}" for letter in letters), *words, ".", ","]


def write_encoder(folder: Path, *, seed: int = 0) -> Path:
    """Write a Hugging Face folder with a random BERT of 2 layers, D 32, 48 positions."""
    import keras

    from tfmodel.model import BertConfig, build_encoder, save_encoder
    from tfmodel.tokens import Tokenizer, Vocabulary

    keras.utils.set_random_seed(seed)
    pieces = vocabulary()
    config = BertConfig(
        vocabulary_size=len(pieces),
        hidden_size=32,
        layers=2,
        heads=2,
        intermediate_size=64,
        max_positions=48,
    )
    tokenizer = Tokenizer(Vocabulary(pieces), max_length=48)
    return save_encoder(build_encoder(config), folder, tokenizer=tokenizer)


def rows(count: int = 120, *, seed: int = 0) -> list[tuple[str, str]]:
    """Distinct texts of the topics in turn, each with its label."""
    generator = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        label = list(TOPICS)[len(found) % len(TOPICS)]
        words = [generator.choice(TOPICS[label]) for _ in range(3)]
        words += generator.sample(_FILLERS, 4)
        generator.shuffle(words)
        found.setdefault(" ".join(words), label)
    return list(found.items())


def write_rows(path: Path, table: list[tuple], header: tuple = ("text", "label")) -> Path:
    """Write a CSV."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *table])
    return path
