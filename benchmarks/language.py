"""Language detectors: right guesses, what a filter on them would drop and keep, time, size.

Run: pip install -e '.[language]' lingua-language-detector pycld2
     TFMODEL_DATA=... python benchmarks/language.py

A filter for one language is right when it keeps that language's rows and drops the others'. Each
detector is asked at the confidence that its own scale suggests; ours as the product asks it.
"""

from __future__ import annotations

import importlib.metadata
import os
import random
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from tfmodel.data.cleaning.language import _identifier, sure_of_other_language

ROWS = 500
Guess = tuple[str, float]


def real_sets() -> dict[str, tuple[str, list[str]]]:
    """Texts by set, with their language."""
    data = Path(os.environ["TFMODEL_DATA"])
    sst2 = [line.split("\t")[0] for line in lines(data / "sst2/train.tsv")[1:]]
    hausa = [line.split("\t")[0] for line in lines(data / "hausa_news/train_clean.tsv")[1:]]
    trec = [line.partition(" ")[2] for line in lines(data / "trec6/TREC.train.all", "latin-1")]
    chinese = (data / "cluener_zh/dev.json").read_text("utf-8")
    sets = {
        "sst2": ("en", sst2),
        "trec6": ("en", trec),
        "wiki_en": ("en", wiki(data / "wiki_en")),
        "wiki_zh": ("zh", wiki(data / "wiki_zh")),
        "cluener_zh": ("zh", re.findall(r'"text": ?"([^"]+)"', chinese)),
        "hausa_news": ("ha", hausa),
    }
    draw = random.Random(7)
    return {name: (code, draw.sample(rows, ROWS)) for name, (code, rows) in sets.items()}


def lines(path: Path, encoding: str = "utf-8") -> list[str]:
    return [line for line in path.read_text(encoding).split("\n") if line.strip()]


def wiki(folder: Path) -> list[str]:
    found = [line for file in sorted(folder.iterdir())[:4] for line in lines(file)]
    return [line for line in found if not line.startswith("<")]


def lingua() -> Callable[[str], Guess]:
    from lingua import LanguageDetectorBuilder

    detector = LanguageDetectorBuilder.from_all_languages().build()

    def guess(text: str) -> Guess:
        best = detector.compute_language_confidence_values(text)[0]
        return best.language.iso_code_639_1.name.lower(), best.value

    return guess


def cld2() -> Callable[[str], Guess]:
    import pycld2

    def guess(text: str) -> Guess:
        _, _, found = pycld2.detect(text.encode(), bestEffort=True)
        return found[0][1].partition("-")[0], found[0][2] / 100

    return guess


def megabytes(package: str) -> float:
    files = importlib.metadata.files(package) or []
    return sum(Path(file.locate()).stat().st_size for file in files) / 1e6


def main() -> None:
    sets = real_sets()
    detectors = {"py3langid": _identifier().classify, "lingua": lingua(), "cld2": cld2()}
    packages = {"py3langid": "py3langid", "lingua": "lingua-language-detector", "cld2": "pycld2"}
    drops = {
        "py3langid": lambda text, code: sure_of_other_language(text, [code]) >= 0.99,
        "lingua": lambda text, code: other(detectors["lingua"](text), code, 0.5),
        "cld2": lambda text, code: other(detectors["cld2"](text), code, 0.9),
    }
    for name, guess in detectors.items():
        print(f"{name}: {megabytes(packages[name]):.0f} MB")
        for rows in sets.values():
            guess(rows[1][0])
        for part, (code, rows) in sets.items():
            started = time.process_time()
            right = statistics.mean(guess(row)[0] == code for row in rows)
            spent = (time.process_time() - started) / len(rows) * 1e6
            dropped = {
                wanted: statistics.mean(drops[name](row, wanted) for row in rows)
                for wanted in ("en", "zh", "ha")
            }
            shares = ", ".join(f"{wanted} {share:.1%}" for wanted, share in dropped.items())
            print(f"  {part} ({code}): {right:.1%} right, {spent:.0f} us; filter drops: {shares}")


def other(guess: Guess, wanted: str, confidence: float) -> bool:
    return guess[0] not in (wanted, "un") and guess[1] >= confidence


if __name__ == "__main__":
    main()
