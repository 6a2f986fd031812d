"""From documents to pretraining batches: how full rows are, and how fast batches are made.

    python benchmarks/packing.py [--data ../shared/data] [--seconds 2]

For both Wikipedia slices, at 128 and 512 tokens, by objective: the share of real tokens, the share
of places for masked tokens that is not used, the share of tokens that is in no row, and millions
of real tokens a second that one thread makes, by the processor's time and by the clock, which
other programs move. Then the same for tokenization. Beside packed rows stands what padding a row
to the longest of 64 random documents would leave.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from tfmodel.tokens import (
    PretrainingBatches,
    TokenDocuments,
    Tokenizer,
    Vocabulary,
    write_token_documents,
)
from tfmodel.tokens.objectives import (
    ElectraSettings,
    MlmSettings,
    NspSettings,
    SimcseSettings,
    SopSettings,
)

OBJECTIVES = {
    "mlm": MlmSettings(),
    "mlm, whole words": MlmSettings(whole_words=True),
    "mlm, spans": MlmSettings(spans=True),
    "electra": ElectraSettings(),
    "nsp": NspSettings(),
    "sop": SopSettings(),
    "simcse": SimcseSettings(),
}
SLICES = {"wiki_en": ("uncased", None), "wiki_zh": ("chinese", "jieba")}
SHAPES = ((128, 64), (512, 16))


def texts(folder: Path) -> Iterator[str]:
    """Bodies of WikiExtractor's documents, those with less than 200 characters left out."""
    for file in sorted(folder.iterdir()):
        for part in file.read_text("utf-8").split("</doc>"):
            body = part.partition('">\n')[2].strip()
            if len(body) >= 200:
                yield body


def tokenize(data: Path, name: str, folder: Path) -> TokenDocuments:
    """Write a slice's token documents and print how fast."""
    kind, words = SLICES[name]
    tokenizer = Tokenizer(Vocabulary.from_file(data / f"vocabs/bert-base-{kind}-vocab.txt"))
    given = list(texts(data / name))
    tokenizer.tokenize(given[:8])
    for label, options in (
        ("pieces", {}),
        ("and sentences", {"sentences": True}),
        ("and words", {"sentences": True, "words": words}),
    ):
        if label == "and words" and words is None:
            continue
        clock, processor = time.perf_counter(), time.process_time()
        documents = write_token_documents(given, tokenizer, folder, **options)
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        tokens = documents.account["tokens"] / 1e6
        print(
            f"{name}: {tokens:.2f} M tokens of {len(documents)} documents, {label}: "
            f"{tokens / processor:.2f} M a second of processor, {tokens / clock:.2f} of the clock"
        )
    return documents


def measure(batches: PretrainingBatches, seconds: float) -> dict[str, float | None]:
    """Make batches for some seconds of processor time."""
    batches.plan(0)
    real = places = used = count = 0
    clock, processor = time.perf_counter(), time.process_time()
    while time.process_time() - processor < seconds and count < 4 * len(batches):
        inputs, _, weights = batches.batch(count // len(batches), count % len(batches))
        real += int((inputs["padding_mask"] > 0).sum())
        if isinstance(weights, dict):
            weights = weights["masked_ids"]
        if weights is not None:
            places, used = places + weights.size, used + float(weights.sum())
        count += 1
    processor, clock = time.process_time() - processor, time.perf_counter() - clock
    return {
        "real": 1 - batches.padding_share,
        "unused": 1 - used / places if places else None,
        "left_out": batches.left_out_share,
        "by_processor": real / processor / 1e6,
        "by_clock": real / clock / 1e6,
    }


def padded_share(lengths: np.ndarray, length: int) -> float:
    """Real tokens where 64 random documents are cut to `length` and padded to the longest."""
    cut = np.minimum(np.random.default_rng(0).permutation(lengths) + 2, length)
    whole = cut[: len(cut) // 64 * 64].reshape(-1, 64)
    return float(whole.sum() / (whole.max(1) * 64).sum())


def main() -> None:
    """Print one line for each slice, length and objective, and all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = os.environ.get("TFMODEL_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    found = []
    for name, (kind, _) in SLICES.items():
        vocabulary = Vocabulary.from_file(arguments.data / f"vocabs/bert-base-{kind}-vocab.txt")
        with tempfile.TemporaryDirectory() as folder:
            documents = tokenize(arguments.data, name, Path(folder) / "tokens")
            for length, batch_size in SHAPES:
                share = padded_share(documents.lengths, length)
                print(f"{name}, {length} tokens: documents padded, {100 * share:.1f}% real")
                for objective, settings in OBJECTIVES.items():
                    batches = PretrainingBatches(
                        documents,
                        objective=settings,
                        vocabulary=vocabulary,
                        max_length=length,
                        batch_size=batch_size,
                    )
                    figures = measure(batches, arguments.seconds)
                    unused = figures["unused"]
                    shown = "   no" if unused is None else f"{100 * unused:4.1f}%"
                    found.append({"slice": name, "length": length, "objective": objective})
                    found[-1] |= figures
                    print(
                        f"  {objective:17} {100 * figures['real']:5.1f}% real, "
                        f"{shown} places unused, "
                        f"{100 * figures['left_out']:6.3f}% left out, "
                        f"{figures['by_processor']:5.1f} M tokens/s of processor, "
                        f"{figures['by_clock']:5.1f} of the clock",
                        flush=True,
                    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
