"""The data stage as a whole: splits, the account, dropped rows, and every mistake's message."""

import json

import pytest
from labelled_rows import as_csv, numbered

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings, prepare


def dropped_rows(dataset):
    lines = (dataset.folder / "dropped.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def test_only_train_named(write, prepared):
    dataset = prepared(write("train.csv", as_csv(numbered(100))))
    assert dataset.counts == {"train": 70, "dev": 10, "test": 20}
    assert dataset.labels == ["neg", "pos"] and not dataset.has_pairs
    texts = [text for name in dataset.counts for text in dataset.split(name).texts]
    assert len(set(texts)) == 100
    assert dataset.split("test").labels.sum() == 10


def test_named_test_and_no_dev_splits_dev_off_train(write, prepared):
    dataset = prepared(
        write("train.csv", as_csv(numbered(50))),
        test=write("test.csv", as_csv([("other a", "neg"), ("other b", "pos")])),
    )
    assert dataset.counts == {"train": 45, "dev": 5, "test": 2}
    assert dataset.split("test").origins == ["test.csv:2", "test.csv:3"]


@pytest.mark.parametrize("split", ["time", "group"])
def test_only_rows_that_are_split_need_what_they_are_split_by(write, prepared, split):
    rows = "".join(f"text {i},{'ab'[i % 2]},{i}\n" for i in range(60))
    dataset = prepared(
        write("dated.csv", f"text,label,when\n{rows}"),
        test=write("test.csv", "text,label\none,a\ntwo,b\n"),
        split=split,
        **{split: "when"},
    )
    assert dataset.counts["test"] == 2 and dataset.counts["dev"] > 0


def test_named_dev_and_no_test_means_none(write, prepared):
    dev = write("dev.csv", as_csv([("other a", "neg"), ("other b", "pos")]))
    dataset = prepared(write("train.csv", as_csv(numbered(50))), dev=dev)
    assert dataset.counts == {"train": 50, "dev": 2}


def test_every_row_is_accounted_for(write, prepared):
    rows = numbered(40)
    rows += [rows[0], (" text  number 1 ", "pos"), ("text number 2", "pos")]  # duplicates, conflict
    rows += [("", "pos"), (" \u200b ", "neg"), ("no label", "  "), ("x" * 1_000_001, "pos")]
    rows += [("in test", "pos"), ("in dev", "neg")]
    content = as_csv(rows) + "only one field\n\n"
    dataset = prepared(
        write("train.csv", content),
        dev=write("dev.csv", as_csv([("in dev", "pos"), ("in test", "pos")])),
        test=write("test.csv", as_csv([("in test", "neg"), ("other", "pos")])),
    )
    account = dataset.account
    train, dev, test = account["files"]
    assert train["dropped"] == {
        "empty_text": 2,
        "duplicate": 2,
        "conflicting_label": 1,
        "empty_label": 1,
        "too_long": 1,
        "wrong_field_count": 1,
        "also_in_test": 1,
        "also_in_dev": 1,
    }
    assert (train["raw"], train["kept"], train["blank_lines"]) == (50, 40, 1)
    assert dev["dropped"] == {"also_in_test": 1} and test["dropped"] == {}
    assert account["raw"] == account["kept"] + sum(account["dropped"].values()) == 54
    assert account["kept"] == sum(dataset.counts.values())
    dropped = dropped_rows(dataset)
    assert len(dropped) == sum(account["dropped"].values())
    by_reason = {row["reason"]: row for row in dropped}
    assert by_reason["too_long"]["origin"] == "train.csv:48"
    assert len(by_reason["too_long"]["text"]) == 2_000
    conflict = by_reason["conflicting_label"]
    assert (conflict["detail"], conflict["label"]) == ("train.csv:4", "pos")
    assert by_reason["wrong_field_count"]["text"] == "only one field"


def test_account_says_what_cleaning_changed(write, prepared):
    rows = numbered(20) + [(f"wide   space {i}", "pos") for i in range(5)] + [("e\u0301", "neg")]
    account = prepared(write("train.csv", as_csv(rows))).account
    steps = account["cleaning"]
    assert {name: step["rows"] for name, step in steps.items()} == {
        "control_characters": 0,
        "unicode": 1,
        "whitespace": 5,
    }
    assert len(steps["whitespace"]["examples"]) == 3
    assert steps["whitespace"]["examples"][0] == {
        "origin": "train.csv:22",
        "before": "wide   space 0",
        "after": "wide space 0",
    }


def test_of_a_row_that_several_steps_changed_each_shows_its_own_doing(write, prepared):
    rows = numbered(20) + [("a\u200b &amp;  b", "neg")]
    chosen = {"html_entities": True}
    steps = prepared(write("train.csv", as_csv(rows)), cleaning=chosen).account["cleaning"]
    shown = {name: step["examples"][0] for name, step in steps.items() if step["rows"]}
    assert {name: (each["before"], each["after"]) for name, each in shown.items()} == {
        "control_characters": ("a\u200b &amp;  b", "a &amp;  b"),
        "html_entities": ("a &amp;  b", "a &  b"),
        "whitespace": ("a &  b", "a & b"),
    }


def test_cleaning_switches_reach_the_texts(write, prepared):
    rows = [(f"a &amp; b {i}", label) for i, (_, label) in enumerate(numbered(20))]
    path = write("train.csv", as_csv(rows))
    assert prepared(path).split("train").texts[0].startswith("a &amp; b")
    changed = prepared(path, cleaning={"html_entities": True})
    assert changed.split("train").texts[0].startswith("a & b")


def test_no_text_stands_in_two_splits_though_rows_repeat(write, prepared):
    rows = [(f"text {i % 30}", "pos" if i % 30 % 2 else "neg") for i in range(300)]
    dataset = prepared(write("train.csv", as_csv(rows)))
    splits = [set(dataset.split(name).texts) for name in dataset.counts]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 30


def test_same_seed_same_bytes_other_seed_other_split(write, prepared):
    path = write("train.csv", as_csv(numbered(60)))
    first, again = prepared(path, folder="a"), prepared(path, folder="b")
    other = prepared(path, folder="c", seed=8)
    names = sorted(file.name for file in first.folder.iterdir())
    assert names == sorted(file.name for file in again.folder.iterdir())
    for name in names:
        assert (first.folder / name).read_bytes() == (again.folder / name).read_bytes()
    assert set(first.split("test").texts) != set(other.split("test").texts)


def test_max_rows_samples_train_alone_and_is_accounted(write, prepared):
    path = write("train.csv", as_csv(numbered(100)))
    full, small = prepared(path, folder="a"), prepared(path, folder="b", max_rows=20)
    assert small.counts == {"train": 20, "dev": 10, "test": 20}
    assert small.split("test").texts == full.split("test").texts
    assert small.split("train").labels.sum() == 10
    assert small.account["dropped"] == {"max_rows": 50}
    assert len(dropped_rows(small)) == 50


def test_numeric_labels_are_strings_in_numeric_order(write, prepared):
    dataset = prepared(write("train.csv", as_csv(numbered(60, labels=["10", "2", "-1"]))))
    assert dataset.labels == ["-1", "2", "10"]
    split = dataset.split("train")
    by_origin = dict(zip(split.origins, split.labels, strict=True))
    for origin, label in by_origin.items():
        line = int(origin.split(":")[1]) - 2
        assert dataset.labels[label] == ["10", "2", "-1"][line % 3]


def test_labels_are_cleaned(write, prepared):
    rows = [(text, f" {label}\u200b ") for text, label in numbered(20)]
    assert prepared(write("train.csv", as_csv(rows))).labels == ["neg", "pos"]


def test_pairs(write, prepared):
    rows = [(f"premise {i}", f"claim {i}", "yes" if i % 2 else "no") for i in range(30)]
    path = write("train.csv", as_csv(rows, header=("premise", "claim", "label")))
    dataset = prepared(path, text="premise", text_pair="claim")
    assert dataset.has_pairs
    split = dataset.split("train")
    assert split.text_pairs is not None
    assert all(a[8:] == b[6:] for a, b in zip(split.texts, split.text_pairs, strict=True))


def test_tiny_classes_are_said(write, prepared, caplog):
    rows = numbered(40) + [("only one", "rare")]
    account = prepared(write("train.csv", as_csv(rows))).account
    assert account["notes"] == [
        "1 of 3 classes have a single row, which stays in train: rare.",
    ]
    assert "single row, which stays in train: rare" in caplog.text


def test_files_of_one_name_are_told_apart(write, prepared):
    dataset = prepared(
        write("train/data.csv", as_csv(numbered(20))),
        test=write("test/data.csv", as_csv([("a", "neg"), ("b", "pos")])),
    )
    assert dataset.split("test").origins[0] == "test/data.csv:2"
    assert dataset.split("train").origins[0].startswith("train/data.csv:")


def test_json_with_half_a_surrogate_is_written(write, prepared):
    lines = [f'{{"text": "emoji {i} \\ud83d", "label": "{i % 2}"}}' for i in range(20)]
    path = write("train.jsonl", "\n".join(lines))
    dataset = prepared(path, cleaning={"control_characters": False})
    assert all("\ufffd" in text for text in dataset.split("train").texts)


def test_locate_turns_sources_into_paths(write, tmp_path):
    path = write("there.csv", as_csv(numbered(20)))
    settings = DataSettings(train="pypi:somewhere")
    dataset = prepare(settings, tmp_path / "out", seed=1, locate={"pypi:somewhere": path}.get)
    assert sum(dataset.counts.values()) == 20


# --- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows, words",
    [
        ([], ["expected rows below the header. Received: a header alone"]),
        (
            [("a", ""), ("b", " ")],
            ["Received: 2 rows, all left out (2 empty_label)", "The column label (data.label) is "
             "empty in all of them"],
        ),
        ([("", "x"), (" ", "y")], ["(2 empty_text)", "The column text (data.text) is empty"]),
        ([("x" * 200_000, "x")], ["(1 too_long)", "Raise data.max_characters"]),
        (
            [("a", "x"), ("b", "x")],
            ["at least two classes. Received: 2 rows, all of the class 'x'", "(data.label)"],
        ),
        ([("a", "x"), ("b", "y")], ["Received: 2 rows in 2 classes, none left for test"]),
    ],
)  # fmt: skip
def test_mistakes_of_the_rows(write, prepared, tmp_path, rows, words):
    with pytest.raises(ConfigError) as caught:
        prepared(write("train.csv", as_csv(rows)))
    for word in words:
        assert word in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["train.csv"]  # nothing half written


def test_labels_that_train_does_not_have(write, prepared):
    train = write("train.csv", as_csv(numbered(20)))
    test = write("test.csv", as_csv([("a", "neg"), ("b", "Pos"), ("c", "meh"), ("d", "meh")]))
    with pytest.raises(ConfigError) as caught:
        prepared(train, test=test)
    assert str(caught.value) == (
        "data.test: expected only labels that train has (neg, pos). Received: meh (2 rows, first "
        "at test.csv:4), Pos (1 rows, first at test.csv:3). Add rows of it to train, correct its "
        "spelling, or take those rows out."
    )


def test_label_whose_rows_all_stand_in_test(write, prepared):
    train = write("train.csv", as_csv([*numbered(20), ("a", "rare")]))
    test = write("test.csv", as_csv([("a", "rare"), ("b", "pos")]))
    with pytest.raises(ConfigError, match="All its rows in train stand in test too"):
        prepared(train, test=test)


def test_train_that_is_also_test(write, prepared):
    train = write("train.csv", as_csv(numbered(20)))
    with pytest.raises(ConfigError, match="expected other rows than those of data.train"):
        prepared(train, test=train)
    with pytest.raises(ConfigError, match=r"Received: none \(20 also_in_test\)"):
        prepared(train, test=write("copy.csv", as_csv(numbered(20))))


def test_all_files_are_found_before_any_is_read(write, prepared):
    with pytest.raises(ConfigError, match="missing.csv: expected a file or folder"):
        prepared(write("train.csv", b"\xff"), test="missing.csv")


def test_max_rows_below_the_number_of_classes(write, prepared):
    path = write("train.csv", as_csv(numbered(60, labels=["a", "b", "c"])))
    with pytest.raises(ConfigError, match="data.max_rows: expected at least one row for each"):
        prepared(path, max_rows=2)


def test_max_rows_below_the_number_of_sets_of_labels(write, prepared):
    labels = [f"{one}|{other}" for one in "abcd" for other in "efgh"]
    path = write("train.csv", as_csv(numbered(160, labels=labels)))
    found = prepared(path, target="classes", label_separator="|", max_rows=10)
    assert found.counts["train"] == 10


def test_a_folder_that_is_not_ours_is_not_replaced(write, prepared):
    train = write("train.csv", as_csv(numbered(20)))
    kept = write("out/thesis.txt", "years of work")
    with pytest.raises(ConfigError, match="Received: something else, which would be lost"):
        prepared(train)
    assert kept.read_text() == "years of work"


def test_sources_inside_the_target_are_refused(write, prepared):
    dataset = prepared(write("train.csv", as_csv(numbered(20))))
    with pytest.raises(ConfigError, match="inside it, which would be lost"):
        prepared(dataset.folder)


def test_a_dataset_of_ours_is_replaced(write, prepared):
    prepared(write("train.csv", as_csv(numbered(20))))
    assert sum(prepared(write("train.csv", as_csv(numbered(30)))).counts.values()) == 30
