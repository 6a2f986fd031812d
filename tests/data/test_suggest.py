"""A look at files nobody described: the suggestion must read them, unedited."""

import gzip
import itertools
import json
import zipfile

import pytest
from labelled_rows import as_csv
from needs import package

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings, prepare, suggest
from tfmodel.data.reading.suggest import look_at

SENTENCES = [
    f"the {noun} we {verb} on {day} was {quality}"
    for noun, verb, day, quality in itertools.product(
        ["room", "meal", "flight", "parcel"],
        ["had", "booked", "got"],
        ["monday", "friday"],
        ["fine, really", "late", 'not "new"'],
    )
]
LABELS = ["praise", "complaint", "question"]
ROWS = [(text, LABELS[i % 3]) for i, text in enumerate(SENTENCES)]


def check(path, tmp_path, **expected):
    """The suggestion holds what is expected and works as it is."""
    settings, notes = suggest(path)
    assert {key: value for key, value in settings.items() if key != "train"} == expected
    dataset = prepare(DataSettings(**settings), tmp_path / "out", seed=1)
    assert sum(dataset.counts.values()) == dataset.account["raw"]
    assert dataset.labels == sorted(LABELS)
    assert all(isinstance(note, str) for note in notes)
    return notes


def test_plain_csv(write, tmp_path):
    path = write("train.csv", as_csv(ROWS))
    notes = check(path, tmp_path, text="text", label="label")
    assert notes[0].startswith("72 rows, 3 classes, from praise (24 rows) to ")
    assert "Half of the texts have up to " in notes[0]


def test_columns_by_their_content(write, tmp_path):
    rows = [
        (i, f"2024-0{i % 9 + 1}-11", text, f"https://example.org/{i:09}/long/path/{i}", kind, "yes")
        for i, (text, kind) in enumerate(ROWS)
    ]
    header = ("id", "when", "what", "where", "kind", "verified")
    path = write("a.csv", as_csv(rows, header=header))
    notes = check(path, tmp_path, text="what", label="kind")
    assert "Columns not used: id, when, where, verified." in notes


def test_semicolons_and_latin_1(write, tmp_path):
    rows = [(label, f"{text} à Zürich") for text, label in ROWS]
    content = as_csv(rows, header=("thema", "brief"), delimiter=";").encode("latin-1")
    path = write("a.csv", content)
    notes = check(path, tmp_path, text="brief", label="thema", delimiter=";", encoding="cp1252")
    assert any("The encoding is a guess: cp1252" in note for note in notes)


def test_without_header(write, tmp_path):
    content = "".join(f"{label}\t{text}\r\n" for text, label in ROWS)
    path = write("Collection", content)
    expected = {"columns": ["label", "text"], "delimiter": "tab", "text": "text", "label": "label"}
    check(path, tmp_path, **expected)


def test_without_header_and_with_other_columns(write, tmp_path):
    rows = [(i, text, label) for i, (text, label) in enumerate(ROWS)]
    path = write("a.csv", as_csv(rows[1:], header=rows[0]))
    columns = ["column_1", "text", "label"]
    check(path, tmp_path, columns=columns, text="text", label="label")


def test_label_first_and_a_space(write, tmp_path):
    path = write("q.label", "".join(f"{label} {text.replace(',', '')}\n" for text, label in ROWS))
    settings = {"columns": ["label", "text"], "delimiter": "space", "quoting": False}
    check(path, tmp_path, **settings)


def test_json_lines_with_nested_fields(write, tmp_path):
    lines = [
        json.dumps({"id": f"{i:032x}", "review": {"body": text}, "meta": {"kind": label}})
        for i, (text, label) in enumerate(ROWS)
    ]
    path = write("rows.jsonl", "\n".join(lines))
    check(path, tmp_path, text="review.body", label="meta.kind")


def test_pairs(write, tmp_path):
    rows = [(i, text, text[::-1], label) for i, (text, label) in enumerate(ROWS)]
    path = write("a.tsv", as_csv(rows, header=("index", "q1", "q2", "same"), delimiter="\t"))
    notes = check(path, tmp_path, text="q1", text_pair="q2", label="same")
    assert "Two columns of text: each row is taken as a pair of texts." in notes


def test_title_and_body_are_no_pair(write, tmp_path):
    rows = [(f"title {i}", text, label) for i, (text, label) in enumerate(ROWS)]
    path = write("a.csv", as_csv(rows, header=("title", "body", "topic")))
    check(path, tmp_path, text="body", label="topic")


def test_folder_per_class(write, tmp_path):
    for i, (text, label) in enumerate(ROWS):
        write(f"news/{label}/{i:03}.txt", text)
    check(tmp_path / "news", tmp_path)
    write("news/praise/999.txt", "It cost £5".encode("latin-1"))
    notes = check(tmp_path / "news", tmp_path, encoding="detect")
    assert "Some files are not UTF-8: the encoding of each file is guessed." in notes


def test_tfds_folder(write, tmp_path):
    path = write("train.csv", as_csv(ROWS))
    dataset = prepare(DataSettings(train=str(path)), tmp_path / "tfds", seed=1)
    settings, _ = suggest(dataset.folder)
    assert (settings["text"], settings["label"]) == ("text", "label")


def test_neighbours_are_named(write, tmp_path):
    path = write("train.csv", as_csv(ROWS))
    for name in ("dev.csv", "test-labeled.csv", "latest.csv", "test.tsv"):
        write(name, "text,label\n")
    _, notes = suggest(path)
    assert "Beside it: dev.csv, test-labeled.csv; name them by dev: and test: to use them." in notes


@pytest.mark.parametrize(
    "words, length", [(3, 32), (20, 32), (30, 64), (100, 160), (390, 512), (5_000, 512)]
)
def test_max_length_follows_the_texts(write, words, length):
    rows = [(f"{i} " + "word " * (words - 1), label) for i, (_, label) in enumerate(ROWS)]
    look = look_at(write("a.csv", as_csv(rows)))
    assert (look.median_words, look.percentile_95_words, look.max_length) == (words, words, length)
    assert look.rows == 72 and look.labels == dict.fromkeys(LABELS, 24)


def test_chinese_characters_count_as_words(write):
    rows = [(f"这家酒店的服务非常好{i}", label) for i, (_, label) in enumerate(ROWS)]
    assert look_at(write("a.csv", as_csv(rows))).median_words == 11


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.csv", "", "an empty file"),
        ("a.csv", "text,label\n", "a header alone"),
        ("a.csv", as_csv([(f"text {i}", i) for i in range(9)]), "expected one column of texts and"),
        ("a.csv", as_csv([("same text here", "x")] * 9), "label \\(1 distinct values\\)"),
        ("a.txt", "Just one story\nand one line.\n", "lines that none of these fits: 'Just one"),
    ],
)
def test_files_without_text_and_label(write, name, content, words):
    with pytest.raises(ConfigError, match=words):
        suggest(write(name, content))


def test_no_such_file(tmp_path):
    with pytest.raises(ConfigError, match="expected a file or folder of labelled rows"):
        suggest(tmp_path / "none.csv")


def as_objects(rows):
    return [
        {"body": {"text": text}, "topic": label, "n": i} for i, (text, label) in enumerate(rows)
    ]


@pytest.mark.parametrize("indent", [None, 1])
def test_json_array_and_the_field_that_holds_it(write, tmp_path, indent):
    path = write("a.json", json.dumps(as_objects(ROWS), indent=indent))
    check(path, tmp_path, text="body.text", label="topic")
    content = {"about": {"n": 1}, "extra": [[1]], "data": as_objects(ROWS), "dev": [{}]}
    path = write("b.json", json.dumps(content, indent=indent))
    check(path, tmp_path, text="body.text", label="topic", records="data")


def test_json_rows_that_are_lists(write, tmp_path):
    path = write("a.json", json.dumps({"oos": [], "train": ROWS}))
    expected = {"records": "train", "columns": ["text", "label"], "text": "text", "label": "label"}
    check(path, tmp_path, **expected)
    settings, _ = suggest(f"{path}/train")
    expected["train"] = f"{path}/train"
    assert settings == {key: value for key, value in expected.items() if key != "records"}


def test_objects_one_after_another(write, tmp_path):
    items = [{**item, "marks": [[0, 3]]} for item in as_objects(ROWS)]
    content = "\n".join(json.dumps(item, indent=1) for item in items)
    check(write("a.json", content), tmp_path, text="body.text", label="topic")


def test_packed_files(write, tmp_path):
    path = write("train.csv.gz", gzip.compress(as_csv(ROWS).encode()))
    check(path, tmp_path, text="text", label="label")
    with zipfile.ZipFile(tmp_path / "sets.zip", "w") as archive:
        archive.writestr("a/train.csv", as_csv(ROWS, delimiter=";"))
        archive.writestr("a/test.csv", as_csv(ROWS))
    settings, _ = suggest(tmp_path / "sets.zip/a/train.csv")
    assert (settings["train"], settings["delimiter"]) == (
        f"{path.parent}/sets.zip/a/train.csv",
        ";",
    )


@pytest.mark.slow
def test_parquet(tmp_path):
    pyarrow, parquet = package("pyarrow"), package("pyarrow.parquet")
    columns = {"id": list(range(72)), "body": [t for t, _ in ROWS], "topic": [x for _, x in ROWS]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    check(tmp_path / "a.parquet", tmp_path, text="body", label="topic")


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("wiki_00", '<doc id="1" url="" title="A">\nA\n</doc>', "documents without labels"),
    ],
)
def test_formats_without_classes_need_no_guess(write, name, content, words):
    with pytest.raises(ConfigError, match=words):
        suggest(write(name, content))


def test_questions_and_their_answers(write):
    question = {"question": "Who reads?", "answers": [{"text": "Anna", "answer_start": 0}]}
    paragraph = {"context": "Anna reads.", "qas": [question, {**question, "answers": []}]}
    for content in ({"data": [{"paragraphs": [paragraph]}]}, [paragraph]):
        look = look_at(write("a.json", json.dumps(content)))
        assert look.settings["format"] == "squad" and look.labels == {}
        assert (look.rows, look.unanswerable) == (2, 1)
        assert look.notes[0].startswith("2 questions about contexts, 1 without an answer.")


def test_words_with_tags_are_texts_with_entities(write):
    sentence = "Anna\tB-PER\nreads\tO\nin\tO\nNew\tB-LOC\nYork\tI-LOC\n\n"
    look = look_at(write("a.conll", sentence * 40))
    assert look.spans and look.labels == {"PER": 40, "LOC": 40}
    assert (look.settings["format"], look.settings["target"]) == ("conll", "spans")
    assert "40 rows, with 80 entities of 2 kinds." in look.notes[0]


@pytest.mark.parametrize(
    "row, found",
    [
        (
            {"id": "a", "text": "Anna reads", "entities": [[0, 4, "PER"]]},
            {"text": "text", "label": "entities"},
        ),
        (
            {"body": "Anna reads", "spans": [{"start": 0, "end": 4, "label": "PER"}]},
            {"text": "body", "label": "spans"},
        ),
        (
            {"text": "Anna", "ner": [{"start_offset": 0, "end": 4, "type": "PER", "id": 1}]},
            {
                "text": "text",
                "label": "ner",
                "spans": {"start": "start_offset", "label": "type"},
            },
        ),
        (
            {"words": ["Anna", "reads"], "tags": ["B-PER", "O"]},
            {"text": "words", "label": "tags"},
        ),
    ],
)
def test_entities_in_json_lines(write, row, found):
    look = look_at(write("a.jsonl", f"{json.dumps(row)}\n" * 9))
    assert look.spans and look.labels == {"PER": 9}
    settings = {key: value for key, value in look.settings.items() if key != "train"}
    assert settings == {**found, "target": "spans"}


def test_lists_that_are_no_entities_are_not_taken_for_some(write):
    rows = [
        {"text": f"text {i} of words", "label": "ab"[i % 2], "n": [[1, 2, 3]]} for i in range(9)
    ]
    look = look_at(write("a.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows)))
    assert not look.spans and set(look.labels) == {"a", "b"}


@pytest.mark.parametrize("name", ["score", "rating", "label"])
def test_numbers_that_are_not_whole_are_labels_of_their_own(write, name):
    rows = [(f"text {i} of some words", f"{1 + i / 40:.3f}") for i in range(100)]
    look = look_at(write("a.csv", as_csv(rows).replace("text,label", f"text,{name}", 1)))
    assert look.numbers == (1.0, pytest.approx(2.2375, abs=1e-3), pytest.approx(3.475, abs=1e-3))
    assert look.settings["label"] == name
    assert "100 rows, a number each, from 1 to 3.475." in look.notes[0]


def test_a_score_of_a_pair_goes_before_its_genre(write):
    lines = ["genre\tsentence1\tsentence2\tscore"]
    lines += [
        f"{('news', 'forum')[i % 2]}\tthe cat {i} sat down\ta dog {i} sat there\t{(i % 9) / 2:.3f}"
        for i in range(90)
    ]
    look = look_at(write("a.tsv", "\n".join(lines) + "\n"))
    assert (look.settings["text"], look.settings["text_pair"]) == ("sentence1", "sentence2")
    assert look.settings["label"] == "score" and look.numbers[2] == 4.0


def test_whole_numbers_that_repeat_are_classes(write):
    rows = [(f"text {i} of some words", 1 + i % 5) for i in range(100)]
    assert look_at(write("a.csv", as_csv(rows))).numbers is None


@pytest.mark.parametrize("bad", [{"text": "Anna", "entities": None}, {"text": "a"}, {"n": 1}])
@pytest.mark.parametrize(
    "row",
    [
        {"text": "Anna reads", "entities": [[0, 4, "PER"]]},
        {"text": ["Anna", "reads"], "entities": ["B-PER", "O"]},
    ],
)
def test_a_bad_row_among_many_does_not_hide_what_they_are(write, row, bad):
    lines = [json.dumps(each) for each in [row] * 12 + [bad]]
    look = look_at(write("a.jsonl", "\n".join(lines)))
    assert look.spans and look.labels == {"PER": 12}
    assert any("1 rows cannot be read" in note for note in look.notes)


def questions(count=30):
    names = ["Anna", "Omar", "Mei"]
    for i in range(count):
        yield f"Who reads book {i}?", f"Book {i} is read by {names[i % 3]} at noon.", names[i % 3]


@pytest.mark.parametrize("named", ["question,context,answer", "id,Answer,Query,Passage"])
def test_questions_with_their_contexts_in_a_table(write, named):
    lines = [named]
    for question, context, answer in questions():
        cells = {"question": question, "context": context, "answer": answer}
        cells |= {"id": "7", "query": question, "passage": context}
        lines.append(",".join(f'"{cells[name.lower()]}"' for name in named.split(",")))
    look = look_at(write("a.csv", "\n".join(lines)))
    columns = {"text": "question", "text_pair": "context", "label": "answer"}
    if named.startswith("id"):
        columns = {"text": "Query", "text_pair": "Passage", "label": "Answer"}
    assert {key: look.settings[key] for key in columns} == columns
    assert look.settings["target"] == "answers" and (look.rows, look.unanswerable) == (30, 0)


@pytest.mark.parametrize(
    "form",
    [
        lambda text, start: {"text": [text], "answer_start": [start]},
        lambda text, start: [{"text": text, "answer_start": start}],
        lambda text, start: [text],
    ],
)
def test_questions_in_json_lines(write, form):
    rows = [
        {"question": q, "context": c, "answers": form(a, c.index(a))} for q, c, a in questions()
    ]
    rows.append(rows[0] | {"answers": {"text": [], "answer_start": []}, "question": "Who else?"})
    look = look_at(write("a.jsonl", "\n".join(map(json.dumps, rows))))
    assert look.settings["target"] == "answers" and (look.rows, look.unanswerable) == (31, 1)


def test_answers_that_are_classes_are_none_of_the_context(write):
    lines = ["question,context,answer"]
    lines += [f"Is it {i}?,It is number {i} now.,{('yes', 'no')[i % 2]}" for i in range(30)]
    look = look_at(write("a.csv", "\n".join(lines)))
    assert look.settings["label"] == "answer" and "target" not in look.settings
