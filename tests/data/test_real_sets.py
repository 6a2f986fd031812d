"""Real files, each by a config of a few lines, and as `suggest` reads them unedited.

Needs the real data of this project's developers, which no user's machine has.
"""

import os
from pathlib import Path

import pytest

from tfmodel.data import DataSettings, prepare, suggest
from tfmodel.data.reading.places import find_place
from tfmodel.data.reading.readers import open_source
from tfmodel.data.rows import Reject

DATA = Path(os.environ.get("TFMODEL_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}")

TREC = {"columns": ["label", "text"], "delimiter": "space", "encoding": "latin-1"}
UCI = {"columns": ["text", "label"]}
HAUSA = {"text": "news_title"}
CLINC = {"columns": ["text", "label"]}
STSB = {"text": "sentence1", "text_pair": "sentence2", "label": "score", "target": "number"}
STSB_COLUMNS = ["genre", "file", "year", "old_index", "score", "sentence1", "sentence2"]
EMOTIONS = {"columns": ["text", "label", "id"], "quoting": False, "target": "classes"}
CLUENER = {"target": "spans", "spans": {"inclusive": True}}
PII_SPANS = {"start": "start_position", "end": "end_position", "label": "entity_type"}
# Folder, file, settings, rows, names of classes.
FILES = [
    ("banking77", "train.csv", {"label": "category"}, 10_003, 77),
    ("banking77", "test.csv", {"label": "category"}, 3_080, 77),
    ("sst2", "train.tsv", {"text": "sentence"}, 67_349, 2),
    ("sst2", "dev.tsv", {"text": "sentence"}, 872, 2),
    ("sst2", "test-labeled.tsv", {"text": "sentence"}, 1_821, 2),
    ("cola", "train.tsv", {"columns": ["source", "label", "star", "text"]}, 8_551, 2),
    ("cola", "dev.tsv", {"columns": ["source", "label", "star", "text"]}, 1_043, 2),
    *[
        ("mrpc", f"msr_paraphrase_{part}.txt", {
            "text": "#1 String", "text_pair": "#2 String", "label": "Quality", "quoting": False,
        }, rows, 2)
        for part, rows in (("train", 4_076), ("test", 1_725))
    ],
    ("rte", "train.tsv", {"text": "sentence1", "text_pair": "sentence2"}, 2_490, 2),
    ("rte", "dev.tsv", {"text": "sentence1", "text_pair": "sentence2"}, 277, 2),
    ("stsb", "train.tsv", {**STSB, "quoting": False}, 5_749, 0),
    ("stsb", "dev.tsv", {**STSB, "quoting": False}, 1_500, 0),
    ("stsb", "sts-test-labelled.tsv", {
        **STSB, "columns": STSB_COLUMNS, "quoting": False, "extra_columns": True,
    }, 1_379, 0),
    ("trec6", "TREC.train.all", TREC, 5_452, 6),
    ("trec6", "TREC.test.all", TREC, 500, 6),
    ("clinc150", "data_full.json", {**CLINC, "records": "train"}, 15_000, 150),
    ("clinc150", "data_full.json", {**CLINC, "records": "val"}, 3_000, 150),
    ("clinc150", "data_full.json", {**CLINC, "records": "test"}, 4_500, 150),
    ("clinc150", "data_full.json", {**CLINC, "records": "oos_train"}, 100, 1),
    ("clinc150", "data_full.json", {**CLINC, "records": "oos_val"}, 100, 1),
    ("clinc150", "data_full.json", {**CLINC, "records": "oos_test"}, 1_000, 1),
    ("goemotions", "train.tsv", EMOTIONS, 43_410, 28),
    ("goemotions", "dev.tsv", EMOTIONS, 5_426, 28),
    ("goemotions", "test.tsv", EMOTIONS, 5_427, 28),
    ("sms_spam", "SMSSpamCollection", {"columns": ["label", "text"]}, 5_574, 2),
    ("uci_sentiment_sentences", "amazon_cells_labelled.txt", UCI, 1_000, 2),
    ("uci_sentiment_sentences", "imdb_labelled.txt", UCI, 1_000, 2),
    ("uci_sentiment_sentences", "yelp_labelled.txt", UCI, 1_000, 2),
    ("uci_sentiment_sentences", "*_labelled.txt", UCI, 3_000, 2),
    ("hausa_news", "train_clean.tsv", HAUSA, 2_045, 5),
    ("hausa_news", "train_clean_noisy_labels.tsv", HAUSA, 2_045, 5),
    ("hausa_news", "dev.tsv", HAUSA, 290, 5),
    ("hausa_news", "test.tsv", HAUSA, 582, 5),
    ("wnut17", "wnut17train.conll", {}, 3_394, 13),
    ("wnut17", "emerging.dev.conll", {}, 1_009, 13),
    ("wnut17", "emerging.test.annotated", {}, 1_287, 13),
    ("cluener_zh", "train.json", CLUENER, 10_748, 10),
    ("cluener_zh", "dev.json", CLUENER, 1_343, 10),
    ("chnsenticorp_zh", "chnsenticorp.zip/train.tsv", {"text": "text_a"}, 9_600, 2),
    ("chnsenticorp_zh", "chnsenticorp.zip/dev.tsv", {"text": "text_a"}, 1_200, 2),
    ("chnsenticorp_zh", "chnsenticorp.zip/test.tsv", {"text": "text_a"}, 1_200, 2),
    ("squad_subset", "train.json", {}, 4_000, 0),
    ("squad_subset", "valid.json", {}, 500, 0),
    ("squad_subset", "test.json", {}, 500, 0),
    ("drcd_zh", "DRCD_dev.json", {}, 3_524, 0),
    ("drcd_zh", "DRCD_test.json", {}, 3_493, 0),
    ("pii_presidio_synth", "synth_dataset_v2.json", {
        "text": "full_text", "label": "spans", "target": "spans", "spans": PII_SPANS,
    }, 1_500, 17),
    ("wiki_en", ".", {}, 49_377, 0),
    ("wiki_zh", "wiki_*", {}, 39_039, 0),
    # INDEX counts lines, blank ones too, which are no rows: `blank_lines` of the account.
    ("wikitext2", "valid.txt", {"format": "text"}, 3_760, 0),
    ("wikitext2", "test.txt", {"format": "text"}, 4_358, 0),
]  # fmt: skip


@pytest.mark.parametrize(
    "folder, file, settings, rows, classes", FILES, ids=[f"{each[0]}/{each[1]}" for each in FILES]
)
def test_published_rows_are_all_read(folder, file, settings, rows, classes):
    place = find_place(file, (DATA / folder).joinpath)
    source = open_source(place, DataSettings(train=file, **settings), role="train")
    names, count, without_text = set(), 0, 0
    for row in source.rows:
        assert not isinstance(row, Reject), row
        names.update(source.target.names(row.label))
        without_text += not row.text.strip()
        count += 1
    if source.facts["format"] == "text":
        count += source.facts["blank_lines"]
    assert count == rows
    assert len(names) == classes
    # Stubs of Wikipedia have no body: rows that `prepare` drops as `empty_text`.
    assert (without_text > 0) == folder.startswith("wiki_")


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
    "clinc150": (
        {
            "train": "data_full.json/train",
            "dev": "data_full.json/val",
            "test": "data_full.json/test",
            **CLINC,
        },
        {"train": 15_000, "dev": 3_000, "test": 4_500},
        150,
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_every_published_row_is_kept_or_accounted_for(tmp_path, name):
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
