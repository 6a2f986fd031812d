"""Real files, each by a config of a few lines, and as `suggest` reads them unedited.

Needs the real data of this project's developers, which no user's machine has.
"""

import os
from pathlib import Path

import pytest

from tfmodel.data import DataSettings, prepare, suggest

DATA = Path(os.environ.get("TFMODEL_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}")

TREC = {"columns": ["label", "text"], "delimiter": "space", "encoding": "latin-1"}
SETS = {
    "banking77": (
        {"train": "train.csv", "test": "test.csv", "label": "category"},
        {"train": 10_003, "test": 3_080},
        77,
    ),
    "sst2": (
        {"train": "train.tsv", "dev": "dev.tsv", "test": "test-labeled.tsv", "text": "sentence"},
        {"train": 67_349, "dev": 872, "test": 1_821},
        2,
    ),
    "sms_spam": (
        {"train": "SMSSpamCollection", "columns": ["label", "text"]},
        {"train": 5_574},
        2,
    ),
    "trec6": (
        {"train": "TREC.train.all", "test": "TREC.test.all", **TREC},
        {"train": 5_452, "test": 500},
        6,
    ),
    "rte": (
        {"train": "train.tsv", "dev": "dev.tsv", "text": "sentence1", "text_pair": "sentence2"},
        {"train": 2_490, "dev": 277},
        2,
    ),
    "cola": (
        {"train": "train.tsv", "dev": "dev.tsv", "columns": ["source", "label", "star", "text"]},
        {"train": 8_551, "dev": 1_043},
        2,
    ),
    "uci_sentiment_sentences": (
        {"train": "imdb_labelled.txt", "columns": ["text", "label"]},
        {"train": 1_000},
        2,
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_published_rows_are_all_read(tmp_path, name):
    settings, rows, classes = SETS[name]
    folder = DATA / name
    dataset = prepare(DataSettings(**settings), tmp_path / "out", seed=1, locate=folder.joinpath)
    assert {file["as"]: file["raw"] for file in dataset.account["files"]} == rows
    assert len(dataset.labels) == classes
    reasons = {"duplicate", "conflicting_label", "also_in_dev", "also_in_test"}
    assert set(dataset.account["dropped"]) <= reasons
    splits = [dataset.split(split) for split in dataset.counts]
    keys = [(t, p) for s in splits for t, p in zip(s.texts, s.text_pairs or s.texts, strict=True)]
    assert len(keys) == len(set(keys)) == dataset.account["kept"]


def test_known_overlap_of_sst2_is_found(tmp_path):
    settings = DataSettings(**SETS["sst2"][0])
    dataset = prepare(settings, tmp_path / "out", seed=1, locate=(DATA / "sst2").joinpath)
    assert dataset.account["dropped"]["also_in_test"] == 2


@pytest.mark.parametrize(
    "name, columns",
    [
        ("banking77/train.csv", ("text", None, "category")),
        ("sst2/train.tsv", ("sentence", None, "label")),
        ("sms_spam/SMSSpamCollection", ("text", None, "label")),
        ("trec6/TREC.train.all", ("text", None, "label")),
        ("rte/train.tsv", ("sentence1", "sentence2", "label")),
        ("hausa_news/train_noisy.tsv", ("news_title", None, "label")),
        ("mrpc/msr_paraphrase_train.txt", ("#1 String", "#2 String", "Quality")),
    ],
)
def test_suggestion_works_unedited(tmp_path, name, columns):
    settings = DataSettings(**suggest(DATA / name)[0])
    assert (settings.text, settings.text_pair, settings.label) == columns
    dataset = prepare(settings, tmp_path / "out", seed=1)
    assert set(dataset.account["dropped"]) <= {"duplicate", "conflicting_label"}
