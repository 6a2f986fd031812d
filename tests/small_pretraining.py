"""A small corpus, its vocabulary and a config, for tests of whole pretraining runs."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path

SUBJECTS = ["the red fox", "a small dog", "the old man", "our neighbour", "the river", "my sister"]
VERBS = ["watches", "follows", "finds", "crosses", "remembers", "leaves", "likes", "paints"]
OBJECTS = ["the green hill", "an open door", "a long road", "the bright moon", "a new song"]
TIMES = ["in the morning", "at night", "before winter", "after the rain", "every year", "again"]

# Everything by a path relative to the folder of the test, so that a copy of it is whole.
CONFIG = """\
run: runs/words
seed: 3
corpus:
  train: texts.jsonl
  near_duplicates: null
  workers: 0
  cleaning: {repetitive: false}
vocabulary: vocab.txt
model: tiny
train:
  steps: 8
  max_length: 16
  batch_size: 4
  precision: float32
  dev_every_steps: 4
"""


def documents(count: int = 120, *, seed: int = 0) -> list[str]:
    """Distinct texts of a few sentences."""
    generator = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        parts = (SUBJECTS, VERBS, OBJECTS, TIMES)
        sentences = [" ".join(generator.choice(each) for each in parts) for _ in range(4)]
        found[". ".join(sentences) + "."] = None
    return list(found)


def write_corpus(path: Path, texts: list[str]) -> Path:
    """Write JSON Lines."""
    path.write_text("".join(f"{json.dumps({'text': text})}\n" for text in texts), "utf-8")
    return path


def write_vocabulary(path: Path) -> Path:
    """All letters, and the words of the corpus."""
    words = sorted(
        {w for part in (SUBJECTS, VERBS, OBJECTS, TIMES) for t in part for w in t.split()}
    )
    letters = list(string.ascii_lowercase)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    longer = [word for word in words if len(word) > 1]
    pieces = [*special, ".", *letters, *(f"##{letter}" for letter in letters), *longer]
    path.write_text("\n".join(pieces) + "\n", "utf-8")
    return path
