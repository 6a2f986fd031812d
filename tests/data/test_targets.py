"""Kinds of labels: how each is read, cleaned, named, and kept in a TFDS folder."""

import pytest

from tfmodel.data import DataSettings
from tfmodel.data.rows import BadLabel, Reject, Row
from tfmodel.data.targets import TARGETS, find_target, parse_row


def parse(target, raw, *, text="good film here", pair=None, **settings):
    chosen = DataSettings(train="a.csv", target=target, **settings)
    row = Row(text, pair, raw, "a.csv:2")
    row.label = TARGETS[target].parse(row, chosen)
    return row


def reason_of(target, raw, **more):
    with pytest.raises(BadLabel) as caught:
        parse(target, raw, **more)
    return caught.value.reason


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target, raw, label",
    [
        ("class", "pos", "pos"),
        ("class", 5, "5"),
        ("class", True, "true"),
        ("class", None, ""),
        ("classes", "4,27", ["4", "27"]),
        ("classes", " joy , fear,joy,", ["joy", "fear"]),
        ("classes", ["joy", 3], ["joy", "3"]),
        ("classes", [], []),
        ("number", " 2.50 ", 2.5),
        ("number", 3, 3.0),
        ("number", "1e-2", 0.01),
        ("spans", [], []),
        ("spans", [{"start": 5, "end": 9, "label": "X"}], [{"start": 5, "end": 9, "label": "X"}]),
        ("spans", [[5, 9, "X"]], [{"start": 5, "end": 9, "label": "X"}]),
        ("spans", [[5, 9, "X"], [5, 9, "X "]], [{"start": 5, "end": 9, "label": "X"}]),
        ("text", "another one", "another one"),
        ("none", "anything", None),
    ],
)
def test_labels_are_read(target, raw, label):
    assert parse(target, raw).label == label


def test_classes_cut_at_another_separator():
    assert parse("classes", "a|b,c", label_separator="|").label == ["a", "b,c"]


@pytest.mark.parametrize(
    "text, raw",
    [
        (["good", "film"], ["O", "B-x"]),
        ("good film", "O B-x"),
        ("", {"words": ["good", "film"], "tags": ["O", "B-x"]}),
    ],
)
def test_tags_set_the_text(text, raw):
    row = parse("tags", raw, text=text)
    assert row.text == "good film"
    assert row.label == {"words": ["good", "film"], "tags": ["O", "B-x"]}


def test_numbers_in_the_place_of_tags_are_told():
    with pytest.raises(BadLabel, match=r"label no name of a tag for each.*: \[0, 1\]") as caught:
        parse("spans", [0, 1], text=["good", "film"])
    assert caught.value.reason == "bad_tags"


def test_spans_by_other_names_and_with_inclusive_ends():
    names = {"start": "from", "end": "to", "label": "kind.name", "inclusive": True}
    raw = [{"from": 5, "to": 8, "kind": {"name": "work"}}]
    row = parse("spans", raw, spans=names)
    assert row.text[slice(5, 9)] == "film"
    assert row.label == [{"start": 5, "end": 9, "label": "work"}]


def test_spans_grouped_by_label_and_surface():
    raw = {"work": {"film": [[5, 8]]}, "praise": {"good": [[0, 3]]}}
    row = parse("spans", raw, spans={"inclusive": True})
    assert row.label == [
        {"start": 0, "end": 4, "label": "praise"},
        {"start": 5, "end": 9, "label": "work"},
    ]


@pytest.mark.parametrize(
    "raw, label",
    [
        ({"answers": [{"text": "film", "answer_start": 5}], "id": "q1"}, ("film", 5, "q1")),
        ({"text": ["film"], "answer_start": [5]}, ("film", 5, "a.csv:2")),
        ([{"text": "film"}], ("film", 5, "a.csv:2")),
        (["film"], ("film", 5, "a.csv:2")),
        ("film", ("film", 5, "a.csv:2")),
        ({"text": "film", "answer_start": 15}, ("film", 15, "a.csv:2")),
        # Said to stand elsewhere, it is taken from the one place where it does.
        ({"answers": [{"text": "here", "answer_start": 12}]}, ("here", 10, "a.csv:2")),
        ({"answers": [{"text": "here", "answer_start": -1}]}, ("here", 10, "a.csv:2")),
    ],
)
def test_answers(raw, label):
    text, start, name = label
    row = parse("answers", raw, text="What?", pair="good film here film")
    assert row.label == {"answers": [{"text": text, "start": start}], "id": name}


def test_a_question_without_an_answer_is_a_row():
    row = parse("answers", {"answers": [], "id": "q"}, pair="good film")
    assert row.label == {"answers": [], "id": "q"}
    for raw in ("", " ", None, {"text": "", "answer_start": 0}):
        row = parse("answers", raw, pair="good film")
        assert row.label == {"answers": [], "id": "a.csv:2"}


@pytest.mark.parametrize(
    "target, raw, reason",
    [
        ("class", ["a"], "not_text"),
        ("classes", "", "empty_label"),
        ("classes", [""], "empty_label"),
        ("classes", [["a"]], "not_text"),
        ("text", ["a"], "not_text"),
        ("number", "", "empty_label"),
        ("number", "3,5", "bad_number"),
        ("number", "nan", "bad_number"),
        ("number", "1_0", "bad_number"),
        ("number", True, "bad_number"),
        ("number", "-1e17", "bad_number"),
        ("number", "1e300", "bad_number"),
        ("tags", ["O"], "bad_tags"),
        ("tags", "O O ", "bad_tags"),
        ("tags", 3, "bad_tags"),
        ("tags", ["B-", "O", "O"], "bad_tags"),
        ("spans", "0-4", "bad_span"),
        ("spans", [{"start": 0, "end": 99, "label": "x"}], "bad_span"),
        ("spans", [{"start": 4, "end": 4, "label": "x"}], "bad_span"),
        ("spans", [{"start": 0, "end": 4}], "bad_span"),
        ("spans", [{"start": "0", "end": "4", "label": "x"}], "bad_span"),
        ("spans", [3], "bad_span"),
        ("spans", {"x": {"good": [[0]]}}, "bad_span"),
        ("answers", ["nowhere"], "answer_not_in_context"),
        ("answers", [{"text": "o", "answer_start": 0}], "answer_start_differs"),
        ("answers", [{"answer_start": 3}], "bad_answers"),
        ("answers", {"text": ["film"], "answer_start": []}, "bad_answers"),
        ("answers", 3, "bad_answers"),
    ],
)
def test_labels_that_cannot_be_read(target, raw, reason):
    assert reason_of(target, raw, pair="good film here") == reason


def test_a_bad_label_rejects_the_row_and_keeps_what_stood_there():
    chosen = DataSettings(train="a.csv", target="number")
    row = parse_row(Row("text", None, "x", "a.csv:2"), chosen, TARGETS["number"], raw="text,x")
    detail = "label holds 'x', not a finite number"
    assert row == Reject("bad_number", "a.csv:2", "text,x", detail)


@pytest.mark.parametrize(
    "target, format_name, name",
    [
        ("auto", "csv", "class"),
        ("auto", "conll", "tags"),
        ("auto", "squad", "answers"),
        ("auto", "text", "none"),
        ("number", "csv", "number"),
    ],
)
def test_the_target_follows_settings_and_format(target, format_name, name):
    assert find_target(DataSettings(train="a", target=target), format_name).name == name


# --- cleaning, names, strata ----------------------------------------------------------------

STEPS = ("control_characters", "unicode", "whitespace")


def test_cleaning_a_class():
    row = Row(" a  b ", "c\u200b", " x\u200b ", "a:1")
    changed = TARGETS["class"].clean(row, STEPS)
    assert (row.text, row.text_pair, row.label) == ("a b", "c", "x")
    assert set(changed) == {"whitespace", "control_characters"}


def test_cleaning_leaves_no_label():
    row = Row("a", None, "\u200b", "a:1")
    TARGETS["class"].clean(row, STEPS)
    assert TARGETS["class"].is_empty(row.label)
    row = Row(" a", None, ["\u200b"], "a:1")
    with pytest.raises(BadLabel, match="empty_label"):
        TARGETS["classes"].clean(row, STEPS)
    assert row.text == "a"


def test_cleaning_tags_word_by_word():
    label = {"words": ["caf\u0065\u0301", "\u200b", "x "], "tags": ["B-p", "O", "O"]}
    row = Row("", None, label, "a:1")
    assert set(TARGETS["tags"].clean(row, STEPS)) == set(STEPS)
    assert row.label == {"words": ["caf\u00e9", "x"], "tags": ["B-p", "O"]}
    assert row.text == "caf\u00e9 x"
    row = Row("", None, {"words": ["a", "\u200b"], "tags": ["O", "B-p"]}, "a:1")
    with pytest.raises(BadLabel, match="nothing of a word tagged B-p"):
        TARGETS["tags"].clean(row, STEPS)


def test_cleaning_moves_spans_along():
    label = [{"start": 3, "end": 12, "label": " w\u200b"}]
    row = Row("A \u200bgood  film.", None, label, "a:1")
    assert row.text[3:13] == "good  film"
    label[0]["end"] = 13
    assert set(TARGETS["spans"].clean(row, STEPS)) == {"control_characters", "whitespace"}
    assert row.text == "A good film."
    assert row.label == [{"start": 2, "end": 11, "label": "w"}]


def test_cleaning_moves_answers_along():
    label = {"answers": [{"text": "good  film", "start": 3}], "id": "q\ud800"}
    row = Row(" What? ", "\ud800\u200b good  film", label, "a:1")
    TARGETS["answers"].clean(row, STEPS)
    assert (row.text, row.text_pair) == ("What?", "\ufffd good film")
    assert row.label == {"answers": [{"text": "good film", "start": 2}], "id": "q\ufffd"}


@pytest.mark.parametrize(
    "target, label",
    [
        ("spans", [{"start": 2, "end": 3, "label": "x"}]),
        ("answers", {"answers": [{"text": "\u200b", "start": 2}], "id": "q"}),
    ],
)
def test_a_span_that_cleaning_empties_is_told(target, label):
    row = Row("a \u200b b", "a \u200b b", label, "a:1")
    with pytest.raises(BadLabel, match="span_lost"):
        TARGETS[target].clean(row, STEPS)
    assert row.text == "a b"


LABELS = {
    "class": ["b", "a"],
    "classes": [["b", "a"], [], ["a"]],
    "number": [2.5, -1.0],
    "tags": [{"words": ["gr\u00fc\u00df", "dich"], "tags": ["b", "a"]}],
    "spans": [[{"start": 0, "end": 2, "label": "b"}, {"start": 3, "end": 4, "label": "a"}], []],
    "answers": [
        {"answers": [{"text": "\u7532", "start": 1}, {"text": "b", "start": 3}], "id": "q1"},
        {"answers": [], "id": "q2"},
    ],
    "text": ["café", "a b"],
    "none": [None],
}


def test_a_text_is_cleaned_as_the_others_are():
    row = parse("text", " a\u00a0\u0007b ", pair="c")
    assert TARGETS["text"].clean(row, STEPS) == ("control_characters", "whitespace")
    assert row.label == "a b" and not TARGETS["text"].is_empty(row.label)
    assert TARGETS["text"].is_empty("")


def test_of_questions_the_answers_may_be_left_out():
    chosen = DataSettings(train="a.json", target="none", format="squad")
    assert find_target(chosen, "squad").name == "none"


@pytest.mark.parametrize("name", TARGETS)
def test_names_and_strata(name):
    target = TARGETS[name]
    names = {each for label in LABELS[name] for each in target.names(label)}
    assert names == ({"a", "b"} if name in ("class", "classes", "tags", "spans") else set())
    strata = {"class": ["b", "a"], "classes": ["a|b", "", "a"]}
    found = [target.stratum(label) for label in LABELS[name]]
    assert found == strata.get(name, [""] * len(found))


@pytest.mark.parametrize("name", TARGETS)
def test_labels_survive_a_tfds_folder(name, tmp_path):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    target, names = TARGETS[name], ["a", "b"]
    index = {each: number for number, each in enumerate(names)}

    def feature(values):
        if values and isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if values and isinstance(values[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    path = tmp_path / "dataset-train.tfrecord-00000-of-00001"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for label in LABELS[name]:
            values = {"text": [b"t"], **target.encode(label, index)}
            # An empty list says nothing of its type, so it is left out, as TFDS itself does.
            features = {key: feature(value) for key, value in values.items() if value}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    count = len(LABELS[name])
    tfds.folder_dataset.write_metadata(
        data_dir=str(tmp_path),
        features=tfds.features.FeaturesDict(
            {"text": tfds.features.Text(), **target.features(names)}
        ),
        split_infos=[tfds.core.SplitInfo(name="train", shard_lengths=[count], num_bytes=1)],
        check_data=False,
    )
    builder = tfds.builder_from_directory(str(tmp_path))
    back = []
    for example in builder.as_dataset("train", shuffle_files=False).as_numpy_iterator():
        lists = {
            key: value.tolist() if getattr(value, "shape", ()) else [value]
            for key, value in example.items()
        }
        back.append(target.decode(lists, names))
    assert back == LABELS[name]


@pytest.mark.parametrize(
    "span, told",
    [
        ({"start": "0", "end": 4, "label": "x"}, "start '0', end 4, label 'x'"),
        ({"start": 0.5, "end": 4, "label": ""}, "start 0.5, end 4, label ''"),
        ({"begin": 0, "end": 4}, "start missing, end 4, label missing"),
    ],
)
def test_a_span_that_cannot_be_read_is_shown(span, told):
    with pytest.raises(BadLabel) as caught:
        parse("spans", [span])
    assert caught.value.detail == f"not two whole numbers and a label: {told}"
