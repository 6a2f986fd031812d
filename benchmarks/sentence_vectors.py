"""How well sentence vectors follow the scores of STS-B's test part, beside sentence-transformers.

Run: pip install -e '.[parity]'
     TFMODEL_DATA=... python benchmarks/sentence_vectors.py [MODEL_FOLDER ...]

Without a folder it is MiniLM as shipped, not trained. Both ours and the peer read the same folder
and the same 1,379 pairs; printed are Spearman's correlation of score and cosine, and the largest
difference between a number of our vectors and of theirs.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
from pathlib import Path

import numpy as np

import tfmodel as tm
from tfmodel.evaluate.vectors import scored_pairs
from tfmodel.sources import DEFAULT_ENCODER, fetch


def test_part() -> tuple[list[str], list[str], np.ndarray]:
    """Both texts and the score of each pair."""
    path = Path(os.environ["TFMODEL_DATA"], "stsb", "sts-test-labelled.tsv")
    with open(path, encoding="utf-8", newline="") as file:
        rows = [*csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    first, second, scores = ([row[column] for row in rows] for column in (5, 6, 4))
    return first, second, np.array(scores, np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="*")
    first, second, scores = test_part()
    for folder in parser.parse_args().folders or [fetch(DEFAULT_ENCODER)]:
        answers = {"tfmodel": tm.load(folder).vectors}
        if importlib.util.find_spec("sentence_transformers"):
            from sentence_transformers import SentenceTransformer

            answers["sentence-transformers"] = SentenceTransformer(str(folder), device="cpu").encode
        print(f"{folder}\n{'':<24}{'Spearman':>9}{'difference':>12}")
        ours = None
        for name, vectors_of in answers.items():
            found = np.stack([vectors_of(first), vectors_of(second)], axis=1)
            ours = found if ours is None else ours
            spearman = scored_pairs(scores, found)["spearman"]
            difference = np.abs(found - ours).max()
            print(f"{name:<24}{100 * spearman:>9.2f}{difference:>12.1e}")


if __name__ == "__main__":
    main()
