"""The Beam pipeline gives what `prepare` gives: the same rows, in the same order, accounted alike.

Beam's DirectRunner is the FnApiRunner in these cases; named outright it does not look for another
runner in the network first.
"""

import json
import random

import needs
import pytest
from labelled_rows import as_csv

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings, load_dataset, prepare

pytestmark = [
    pytest.mark.slow,
    # Beam's own, of what is not installed and of how it calls itself.
    pytest.mark.filterwarnings("ignore:::apache_beam"),
]

IN_THIS_PROCESS = ("--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",)


@pytest.fixture(autouse=True)
def _beam():
    needs.package("apache_beam")


def by_beam(settings, folder, *, seed=3, flags=IN_THIS_PROCESS):
    from tfmodel.data.beam import prepare_with_beam

    return prepare_with_beam(settings, folder, seed=seed, flags=flags)


def dropped_of(dataset):
    lines = (dataset.folder / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return sorted(entries, key=lambda each: json.dumps(each, sort_keys=True))


def rows_of(dataset, name):
    split = dataset.split(name)
    labels = split.labels if isinstance(split.labels, list) else split.labels.tolist()
    pairs = split.text_pairs or [None] * len(labels)
    return list(zip(split.texts, pairs, labels, split.origins, strict=True))


def check_same(tmp_path, **settings):
    """Prepare in both ways and compare all there is to compare; give the dataset."""
    chosen = DataSettings(workers=0, **settings)
    local = prepare(chosen, tmp_path / "local", seed=3)
    found = by_beam(chosen, tmp_path / "beam")
    assert (found.labels, found.counts) == (local.labels, local.counts)
    for name in local.counts:
        assert rows_of(found, name) == rows_of(local, name)
    assert dropped_of(found) == dropped_of(local)
    assert found.account == local.account
    names = {path.name for path in found.folder.iterdir()}
    assert names == {path.name for path in local.folder.iterdir()}
    return found


WORDS = ["harbour", "quiet", "lantern", "river", "market", "silver", "winter", "garden", "stone"]


def sentence(seed, words=12):
    generator = random.Random(seed)
    return " ".join(f"{generator.choice(WORDS)}{generator.randrange(50)}" for _ in range(words))


def messy(first, count):
    """Rows with copies, copies of another label, near copies, and what cannot be kept."""
    generator = random.Random(first)
    rows = [(sentence(first + i), generator.choice("aabbbc"), f"{i % 17}") for i in range(count)]
    rows += [(f"  {text}\u200b", label, place) for text, label, place in rows[:10]]
    rows += [(text, "c", place) for text, _, place in rows[10:20]]
    rows += [(f"{text} x", label, place) for text, label, place in rows[20:40]]
    rows += [(f"{text} y", "c", place) for text, _, place in rows[30:50]]
    return rows + [("", "a", "3"), ("no label", "", "4"), ("no time", "a", "")]


@pytest.fixture
def train(write):
    rows = [*messy(0, 200), *((f"rare {i}", "d", f"{i}") for i in range(4))]
    return str(write("train.csv", as_csv(rows, header=("text", "label", "place"))))


@pytest.mark.parametrize(
    "settings",
    [
        {"split": "stratified"},
        {"split": "stratified", "max_rows": 60},
        {"split": "hash", "max_rows": 60},
        {"split": "group", "group": "place"},
        {"split": "time", "time": "place"},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_every_way_to_split(train, tmp_path, settings):
    dataset = check_same(tmp_path, train=train, **settings)
    reasons = {"duplicate", "conflicting_label", "empty_text", "empty_label"}
    assert reasons <= set(dataset.account["dropped"])
    assert ("max_rows" in dataset.account["dropped"]) == ("max_rows" in settings)


def test_leaks_and_near_duplicates_in_several_files(write, tmp_path):
    needs.package("datasketch")
    rows = messy(0, 150)
    header = ("text", "label", "place")
    write("rows/one.csv", as_csv([*rows[:60], *rows[70:90]], header=header))
    write(
        "rows/two.csv", as_csv([*rows[90:], *rows[:5]], header=header).replace("silver", "silvér")
    )
    dev = [*((text, label, "1") for text, label, _ in rows[5:15]), *messy(300, 20)]
    test = [*((f"{text}!", label, "1") for text, label, _ in rows[12:30]), *messy(400, 20)]
    dataset = check_same(
        tmp_path,
        train=str(tmp_path / "rows/*.csv"),
        dev=str(write("dev.csv", as_csv(dev, header=header))),
        test=str(write("test.csv", as_csv(test, header=header))),
        near_duplicates=0.7,
    )
    reasons = {"also_in_dev", "near_in_test", "near_duplicate"}
    assert reasons <= set(dataset.account["dropped"])
    assert dataset.account["near_duplicates"]["conflicts"] > 0
    assert dataset.account["files"][0]["files"] == 2


def test_pairs(write, tmp_path):
    rows = [(f"first {i % 40}", f"second {i % 30}", "no" if i % 3 else "yes") for i in range(150)]
    train = write("train.csv", as_csv(rows, header=("one", "two", "label")))
    assert check_same(tmp_path, train=str(train), text="one", text_pair="two").has_pairs


@pytest.mark.parametrize("target", ["number", "spans", "classes"])
def test_labels_that_are_no_class(write, tmp_path, target):
    labels = {
        "number": lambda i: i * 3,
        "spans": lambda i: [{"start": 0, "end": 4, "label": "ab"[i % 2]}] if i % 3 else [],
        "classes": lambda i: ["x", "y", "z"][: i % 4],
    }[target]
    rows = [{"text": f"text number {i % 90}", "label": labels(i)} for i in range(100)]
    train = write("train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    dataset = check_same(tmp_path, train=str(train), target=target)
    assert dataset.target == target


def test_a_folder_per_class(write, tmp_path):
    for i in range(60):
        write(f"news/{'sport' if i % 2 else 'city'}/{i:02d}.txt", f"news number {i % 55}")
    check_same(tmp_path, train=str(tmp_path / "news"))


def test_real_rows(tmp_path):
    needs.package("datasketch")
    file = needs.shared_data("banking77/test.csv")
    dataset = check_same(tmp_path, train=str(file), label="category", near_duplicates=0.6)
    assert dataset.account["dropped"]["near_duplicate"] > 100


def test_rows_of_several_shards_stand_in_order(train, tmp_path, monkeypatch):
    from tfmodel.data import dataset_writer
    from tfmodel.data.beam import writing

    monkeypatch.setattr(dataset_writer, "_SHARD_BYTES", 3_000)
    monkeypatch.setattr(writing, "_BLOCK_BITS", 3)
    chosen = DataSettings(train=train, workers=0)
    local = prepare(chosen, tmp_path / "local", seed=3)
    found = by_beam(chosen, tmp_path / "beam")
    assert len(list(found.folder.glob("dataset-train*"))) > 3
    for name in local.counts:
        assert rows_of(found, name) == rows_of(local, name)


@pytest.mark.parametrize(
    "flags",
    [
        ("--runner=DirectRunner",),
        (*IN_THIS_PROCESS, "--direct_running_mode=multi_processing", "--direct_num_workers=2"),
    ],
    ids=["DirectRunner", "several processes"],
)
def test_other_ways_to_run(train, tmp_path, monkeypatch, flags):
    from apache_beam.runners.portability import prism_runner

    def is_out_of_reach(*_):
        raise OSError("no network")

    # The DirectRunner would fetch another runner first; it falls back where it cannot.
    monkeypatch.setattr(prism_runner.PrismRunner, "run_pipeline", is_out_of_reach)
    chosen = DataSettings(train=train, workers=0)
    local = prepare(chosen, tmp_path / "local", seed=3)
    found = by_beam(chosen, tmp_path / "beam", flags=flags)
    assert found.account == local.account
    for name in local.counts:
        assert rows_of(found, name) == rows_of(local, name)
    assert load_dataset(tmp_path / "beam").counts == local.counts


def test_the_command_line_prepares_by_beam(train, tmp_path, tfmodel):
    config = tmp_path / "run.yaml"
    config.write_text(f"run: {tmp_path}/run\ndata: {{train: {train}}}\n")
    done = tfmodel("data", config, "--beam=" + " ".join(IN_THIS_PROCESS))
    assert done.code == 0, done.err
    local = prepare(DataSettings(train=train, workers=0), tmp_path / "local", seed=0)
    assert load_dataset(tmp_path / "run/data").account == local.account
    assert "data: up to date" in tfmodel("data", config).err


@pytest.mark.parametrize("flags", [("--runner=NoRunner",), ("--direct_num_workers=many",)])
def test_flags_that_beam_does_not_take(train, tmp_path, flags):
    with pytest.raises(ConfigError, match=f"Apache Beam takes. Received: {flags[0]}"):
        by_beam(DataSettings(train=train), tmp_path / "beam", flags=flags)


@pytest.mark.parametrize(
    "rows, settings, message",
    [
        ([("one", "a"), ("two", "a")], {}, r"data.train: expected rows of at least two classes"),
        ([("", "a"), ("", "b")], {}, r"train.csv: expected rows with a text and a label"),
        ([("one", "a"), ("two", "b")], {}, r"data: expected enough rows to split off"),
        ([("one", "a"), ("two", "b")], {"text": "body"}, r"expected a column body"),
        ([("one", "a"), ("two", "b")], {"dev": "dev.csv"}, r"data.dev: expected only labels that"),
    ],
)
def test_mistakes_are_said_as_prepare_says_them(write, tmp_path, rows, settings, message):
    train = write("train.csv", as_csv(rows))
    if "dev" in settings:
        settings = {"dev": str(write("dev.csv", as_csv([("three", "z")])))}
    chosen = DataSettings(train=str(train), workers=0, **settings)
    with pytest.raises(ConfigError, match=message) as local:
        prepare(chosen, tmp_path / "local", seed=3)
    with pytest.raises(ConfigError) as found:
        by_beam(chosen, tmp_path / "beam")
    assert str(found.value) == str(local.value)
    assert not (tmp_path / "beam").exists() and not list(tmp_path.glob(".beam*"))
