"""Our tokenizer against Hugging Face's `tokenizers` on Wikipedia: equal ids and offsets, how fast.

Run: pip install -e '.[parity]'
     TFMODEL_DATA=/path/to/data python benchmarks/tokenize_speed.py

The data is a folder with `wiki_en/`, `wiki_zh/` (files wiki_*) and `vocabs/`. Both libraries get
the same lines in the same process and two threads each, ours by a pool of two, theirs by its own;
theirs by batches or by all lines at once, whichever is faster here. The two take turns, and each
turn is a pair of which the ratio counts; the medians of the pairs are printed, by the clock and by
the processor's time, which other programs of the machine change less.

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
    options = parser.parse_args()
    data = Path(os.environ.get("TFMODEL_DATA", "../shared/data"))
    print(f"tokenizers {tokenizers.__version__}, tensorflow {tf.__version__}, {THREADS} threads")
    for folder, name, lowercase in CASES:
        paths = sorted((data / folder).glob("wiki_*"))
        lines = [line for path in paths for line in path.read_text("utf-8").split("\n") if line]
        vocabulary = Vocabulary.from_file(data / "vocabs" / f"bert-base-{name}-vocab.txt")
        compare(f"{folder}, {name}", lines, vocabulary, lowercase=lowercase, pairs=options.pairs)


def compare(
    title: str, lines: list[str], vocabulary: Vocabulary, *, lowercase: bool, pairs: int
) -> None:
    """Print how many lines differ, and both speeds with and without offsets."""
    ours, theirs = Tokenizer(vocabulary, lowercase=lowercase), peer(vocabulary, lowercase=lowercase)
    chunks = [lines[i : i + LINES_AT_ONCE] for i in range(0, len(lines), LINES_AT_ONCE)]
    tokens, differ = count_differences(ours, theirs, chunks)
    print(f"{title}: {len(lines):,} lines, {tokens:,} tokens, {differ} lines differ", flush=True)
    for what, own, encode in (
        ("ids", ours_ids(ours), theirs.encode_batch_fast),
        ("ids and offsets", ours.tokenize_with_offsets, theirs.encode_batch),
    ):
        run = functools.partial(in_threads, own, chunks)
        measure(what, run, encode, chunks, tokens=tokens, pairs=pairs)


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


def in_threads(function: Callable, chunks: list[list[str]]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(function, chunks):
            pass


def count_differences(
    ours: Tokenizer, theirs: tokenizers.Tokenizer, chunks: list[list[str]]
) -> tuple[int, int]:
    """Tokens in all, and lines of which an id or an offset is another."""
    tokens = differ = 0
    for chunk in chunks:
        rows = (part.to_list() for part in ours.tokenize_with_offsets(chunk))
        expected = theirs.encode_batch(chunk, add_special_tokens=False)
        for ids, starts, ends, each in zip(*rows, expected, strict=True):
            tokens += len(each.ids)
            differ += ids != each.ids or list(zip(starts, ends, strict=True)) != each.offsets
    return tokens, differ


def measure(
    what: str,
    ours: Callable[[], None],
    encode: Callable,
    chunks: list[list[str]],
    *,
    tokens: int,
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
    speeds = [tokens / statistics.median(turn[i][0] for turn in turns) / 1e6 for i in (0, 1)]
    print(
        f"  {what:<16} ours {speeds[0]:5.2f} M tokens/s, theirs {speeds[1]:5.2f}; "
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
