"""Our tokenizer against Hugging Face's `tokenizers` on Wikipedia: equal ids and offsets, how fast.

Run: pip install -e '.[parity]'
     TFMODEL_DATA=/path/to/data python benchmarks/tokenize_speed.py

The data is a folder with `wiki_en/`, `wiki_zh/` (files wiki_*) and `vocabs/`. Lines that differ are
counted in all files, speed is measured on the first ones. Both libraries get the same lines in the
same process and two threads each, ours by a pool of two, theirs by its own; theirs by batches or by
all lines at once, whichever is faster here. The two take turns, and each turn is a pair of which
the ratio counts; the medians of the pairs are printed, by the clock and by the processor's time,
which other programs of the machine change less.

(The name is not tokenize.py: that would hide Python's own module of this name from every script
in this folder.)
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

THREADS = 2
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["RAYON_NUM_THREADS"] = str(THREADS)  # read when tokenizers first works
os.environ["TOKENIZERS_PARALLELISM"] = "true"

import tensorflow as tf  # noqa: E402
import tokenizers  # noqa: E402

from tfmodel.tokens import Tokenizer, Vocabulary  # noqa: E402

LINES_AT_ONCE = 4096
CASES = [  # text, vocabulary, lower-case
    ("wiki_en", "uncased", True),
    ("wiki_en", "cased", False),
    ("wiki_en", "chinese", True),
    ("wiki_zh", "uncased", True),
    ("wiki_zh", "cased", False),
    ("wiki_zh", "chinese", True),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="turns of the two libraries")
    parser.add_argument("--files", type=int, default=8, help="files whose tokenizing is timed")
    options = parser.parse_args()
    data = Path(os.environ.get("TFMODEL_DATA", "../shared/data"))
    print(f"tokenizers {tokenizers.__version__}, tensorflow {tf.__version__}, {THREADS} threads")
    for folder, name, lowercase in CASES:
        paths = sorted((data / folder).glob("wiki_*"))
        vocabulary = Vocabulary.from_file(data / "vocabs" / f"bert-base-{name}-vocab.txt")
        ours = Tokenizer(vocabulary, lowercase=lowercase)
        theirs = peer(vocabulary, lowercase=lowercase)
        chunks = chunks_of(paths)
        lines, tokens, differ = count_differences(ours, theirs, chunks)
        print(f"{folder}, {name}: {lines:,} lines, {tokens:,} tokens, {differ} lines differ")
        chunks = chunks_of(paths[: options.files])
        for what, own, encode in (
            ("ids", ours_ids(ours), theirs.encode_batch_fast),
            ("ids and offsets", ours.tokenize_with_offsets, theirs.encode_batch),
        ):
            run = functools.partial(in_threads, own, chunks)
            measure(what, run, encode, chunks, pairs=options.pairs)


def chunks_of(paths: list[Path]) -> list[list[str]]:
    """The lines of the files, some thousands at a time."""
    lines = [line for path in paths for line in path.read_text("utf-8").split("\n") if line]
    return [lines[i : i + LINES_AT_ONCE] for i in range(0, len(lines), LINES_AT_ONCE)]


def peer(vocabulary: Vocabulary, *, lowercase: bool) -> tokenizers.Tokenizer:
    """BERT's tokenizer as the tokenizers library has it."""
    model = tokenizers.models.WordPiece(
        vocabulary.ids, unk_token="[UNK]", max_input_chars_per_word=100
    )
    theirs = tokenizers.Tokenizer(model)
    theirs.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return theirs


def ours_ids(tokenizer: Tokenizer) -> Callable:
    return lambda chunk: tokenizer.tokenize(tf.constant(chunk))


def in_threads(function: Callable, chunks: list[list[str]]) -> list:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, chunks))


def count_differences(
    ours: Tokenizer, theirs: tokenizers.Tokenizer, chunks: list[list[str]]
) -> tuple[int, int, int]:
    """Lines and tokens in all, and lines of which an id or an offset is another."""

    def count(chunk: list[str]) -> tuple[int, int, int]:
        rows = [part.to_list() for part in ours.tokenize_with_offsets(chunk)]
        expected = theirs.encode_batch(chunk, add_special_tokens=False)
        differ = sum(
            ids != each.ids or list(zip(starts, ends, strict=True)) != each.offsets
            for ids, starts, ends, each in zip(*rows, expected, strict=True)
        )
        return len(chunk), sum(map(len, rows[0])), differ

    return tuple(map(sum, zip(*in_threads(count, chunks), strict=True)))


def measure(
    what: str,
    ours: Callable[[], object],
    encode: Callable,
    chunks: list[list[str]],
    *,
    pairs: int,
) -> None:
    """Let both take turns and print medians; the first turn of each only warms up."""
    at_once = [line for chunk in chunks for line in chunk]

    def by_chunks() -> None:
        for chunk in chunks:
            encode(chunk, add_special_tokens=False)

    ways = [by_chunks, lambda: encode(at_once, add_special_tokens=False)]
    theirs = min(ways, key=lambda way: seconds_of(way)[0])
    seconds_of(ours)
    turns = [(seconds_of(ours), seconds_of(theirs)) for _ in range(pairs)]
    clock = sorted(peer[0] / own[0] for own, peer in turns)
    processor = statistics.median(peer[1] / own[1] for own, peer in turns)
    millions = sum(len(line) for line in at_once) / 1e6
    speeds = [millions / statistics.median(turn[i][0] for turn in turns) for i in (0, 1)]
    print(
        f"  {what:<16} ours {speeds[0]:5.1f} M characters/s, theirs {speeds[1]:5.1f}; "
        f"ratio {statistics.median(clock):.1f} ({clock[0]:.1f} to {clock[-1]:.1f} in {pairs} "
        f"pairs), by the processor's time {processor:.1f}",
        flush=True,
    )


def seconds_of(function: Callable[[], object]) -> tuple[float, float]:
    """By the clock, and of the processor in all threads."""
    clock, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - clock, time.process_time() - processor


if __name__ == "__main__":
    main()
