"""Vocabularies on held-out Wikipedia: bytes a token and unknown tokens, ours against bert-base's.

Run: pip install -e '.[vocabulary]'
     TFMODEL_DATA=/path/to/data python benchmarks/vocabulary.py

Trained on all files but the last four of `wiki_en/` and `wiki_zh/`, measured on those four. The
smallest are trained in two processes with two hash seeds, which must give the same pieces; the
seconds are of the first, TensorFlow's start aside. `tokenizers` trains its own at one size, with
its own count of words, for the time and to see whether its runs agree.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

HELD_OUT_FILES = 4
CASES = [  # folder, lower-case, size
    ("wiki_en", True, 8_000),
    ("wiki_en", True, 16_000),
    ("wiki_en", True, 30_522),
    ("wiki_en", False, 28_996),
    ("wiki_zh", True, 10_000),
    ("wiki_zh", True, 21_128),
]
THEIRS = [  # folder, file, lower-case
    ("wiki_en", "uncased", True),
    ("wiki_en", "cased", False),
    ("wiki_zh", "chinese", True),
]
SMALLEST = (8_000, 10_000)
PEER_SIZE = 16_000


def documents(paths: list[Path]) -> Iterator[str]:
    """The texts of WikiExtractor's files, without those that have but a title."""
    for path in paths:
        for document in path.read_text("utf-8").split("</doc>\n"):
            body = "\n".join(document.split("\n")[3:]).strip()
            if body:
                yield body


def split(data: Path, folder: str) -> tuple[list[Path], list[Path]]:
    paths = sorted((data / folder).glob("wiki_*"))
    return paths[:-HELD_OUT_FILES], paths[-HELD_OUT_FILES:]


def measure(tokenizer, texts: list[str]) -> str:
    """Bytes a token, and how many in a hundred tokens are unknown."""
    size = tokens = unknown = 0
    for start in range(0, len(texts), 512):
        chunk = texts[start : start + 512]
        ids = tokenizer.tokenize(chunk).flat_values.numpy()
        size += sum(len(text.encode("utf-8")) for text in chunk)
        tokens += ids.size
        unknown += int((ids == tokenizer.vocabulary.unknown_id).sum())
    return f"{size / tokens:.3f} bytes a token, {unknown / tokens:.3%} unknown"


def train(data: Path, folder: str, lowercase: bool, size: int, target: Path) -> None:
    """In a process of its own: train, and tell the time and the memory."""
    import resource

    import tensorflow as tf

    from tfmodel.tokens.vocabulary_training import train_vocabulary

    tf.constant(0)
    started = time.perf_counter(), time.process_time()
    texts = documents(split(data, folder)[0])
    train_vocabulary(texts, size=size, lowercase=lowercase).save(target)
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - started[0],
                "processor_seconds": time.process_time() - started[1],
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def train_theirs(data: Path, folder: str, target: Path) -> None:
    """Hugging Face's BertWordPieceTokenizer on the same texts."""
    from tokenizers.implementations import BertWordPieceTokenizer

    started = time.perf_counter(), time.process_time()
    theirs = BertWordPieceTokenizer(lowercase=True)
    texts = documents(split(data, folder)[0])
    theirs.train_from_iterator(texts, vocab_size=PEER_SIZE, show_progress=False)
    ids = theirs.get_vocab()
    target.write_text("\n".join(sorted(ids, key=ids.get)) + "\n", "utf-8")
    spent = time.perf_counter() - started[0], time.process_time() - started[1]
    print(json.dumps({"seconds": spent[0], "processor_seconds": spent[1]}))


def elsewhere(*arguments: object, seed: int) -> dict:
    command = [sys.executable, __file__, *map(str, arguments)]
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def told(figures: dict) -> str:
    text = f"{figures['seconds']:.0f} s ({figures['processor_seconds']:.0f} s of processor)"
    return text + (f", peak {figures['peak_mb']:.0f} MB" if "peak_mb" in figures else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", nargs=4, metavar=("FOLDER", "LOWERCASE", "SIZE", "TARGET"))
    parser.add_argument("--train-theirs", nargs=2, metavar=("FOLDER", "TARGET"))
    options = parser.parse_args()
    data = Path(os.environ["TFMODEL_DATA"])
    if options.train:
        folder, lowercase, size, target = options.train
        train(data, folder, lowercase == "True", int(size), Path(target))
        return
    if options.train_theirs:
        train_theirs(data, options.train_theirs[0], Path(options.train_theirs[1]))
        return
    compare(data)


def compare(data: Path) -> None:
    import tempfile

    from tfmodel.tokens import Tokenizer, Vocabulary

    held_out = {name: [*documents(split(data, name)[1])] for name in ("wiki_en", "wiki_zh")}
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first.txt"), Path(folder, "second.txt")
        for name, lowercase, size in CASES:
            figures = elsewhere("--train", name, lowercase, size, first, seed=1)
            same = ""
            if size in SMALLEST:
                elsewhere("--train", name, lowercase, size, second, seed=2)
                same = "equal" if first.read_bytes() == second.read_bytes() else "DIFFERENT"
                same = f"; two processes {same}"
            tokenizer = Tokenizer(Vocabulary.from_file(first), lowercase=lowercase)
            print(
                f"{name}, {'uncased' if lowercase else 'cased'}, {size:,} trained: "
                f"{measure(tokenizer, held_out[name])}; {told(figures)}{same}",
                flush=True,
            )
        for name in ("wiki_en", "wiki_zh"):
            figures = elsewhere("--train-theirs", name, first, seed=1)
            elsewhere("--train-theirs", name, second, seed=2)
            one, two = ({*path.read_text("utf-8").split("\n")} for path in (first, second))
            same = "equal" if first.read_bytes() == second.read_bytes() else "different"
            tokenizer = Tokenizer(Vocabulary.from_file(first))
            print(
                f"{name}, uncased, {PEER_SIZE:,} by BertWordPieceTokenizer.train: "
                f"{measure(tokenizer, held_out[name])}; {told(figures)}; two processes differ in "
                f"{len(one ^ two)} pieces, files {same}",
                flush=True,
            )
    for name, kind, lowercase in THEIRS:
        vocabulary = Vocabulary.from_file(data / "vocabs" / f"bert-base-{kind}-vocab.txt")
        tokenizer = Tokenizer(vocabulary, lowercase=lowercase)
        print(
            f"{name}, bert-base-{kind}, {len(vocabulary):,}: {measure(tokenizer, held_out[name])}"
        )


if __name__ == "__main__":
    main()
