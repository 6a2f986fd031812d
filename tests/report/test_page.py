"""The page: whole, well formed, self-contained, safe, and right in what it says."""

import re

import pytest
from parsed_page import Page, check_asks_nothing_of_the_network

from tfmodel.report import Results, write_report


def _page(tmp_path, results):
    path = write_report(tmp_path / "report.html", results)
    return Page(path.read_text("utf-8"))


def test_a_finished_run_tells_everything(tmp_path, make_results):
    results = make_results()
    page = _page(tmp_path, results)
    source = (tmp_path / "report.html").read_text("utf-8")
    check_asks_nothing_of_the_network(page, source)
    test = results.evaluation["test"]
    for words in [
        "News",
        f"{100 * test['accuracy']:.1f} %",
        "of 120 test rows answered right",
        "1 min 52 s",
        "54 examples a second and 6,951 tokens a second",
        "taken up again at step 60",
        "353 raw rows, 333 kept and 20 left out.",
        "Exact duplicate of an earlier row 13 11 2",
        "New reason 1 1 0",
        "2 beyond max_rows",
        "train.csv and test.csv read as csv, utf-8, delimiter comma.",
        "a single row, which stays in train",
        "a⏎‹U+200B›b became a b",
        "Both artifacts answer as the Keras model does.",
        "savedmodel/ 1 passed 91.7 MB 400 ms 18 ms 24 ms 131 MB (37) 1.2e-7 100% 95.0% (90.0–98.0)",
        "… in MediaPipe passed – 400 ms 18 ms 24 ms 217 MB (37) 1.2e-7 100%",
        "other tokens of 3 rows of 50, and may answer otherwise there: in “Un café” it reads "
        "caf ##é where the model was trained on cafe.",
        "Not run in Task Library 0.4: no Python with it.",
        "Smallest artifact 23.2 MB int8, 18 ms a text",
        'tfmodel predict runs/news "Shares fell."',
        "tfmodel run news.yaml",
        "seed: 7",
        "cpu flags avx2, amx",
        "seed 7",
    ]:
        assert words in page.text, words
    headings = re.findall(r"<h2[^>]*>([^<]+)<", source)
    assert headings == [
        "Data", "Training", "Mix-ups", "Classes", "Calibration", "Mistakes", "Right answers",
        "Artifacts", "Settings",
    ]  # fmt: skip
    assert source.count("<svg") == 5
    assert len(source) < 400_000


def test_what_is_missing_is_left_out(tmp_path):
    page = _page(tmp_path, Results(title="Nothing yet"))
    assert "h2" not in page.tags and "table" not in page.tags and "svg" not in page.tags
    assert "nothing has been measured yet" in page.text


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        ({"account": {}}, {"Data"}),
        ({"history": ()}, {"Training"}),
        ({"parity": {}}, {"Artifacts"}),
        ({"config": {}, "environment": {}}, {"Settings"}),
        (
            {"evaluation": {}, "parity": {}},
            {"Mix-ups", "Classes", "Calibration", "Mistakes", "Right answers", "Artifacts"},
        ),
        ({"training": {}, "timings": {}, "command": "", "next_command": ""}, set()),
    ],
)
def test_a_part_of_a_run_gives_a_part_of_the_page(tmp_path, make_results, missing, gone):
    _page(tmp_path, make_results(**missing))
    source = (tmp_path / "report.html").read_text("utf-8")
    headings = set(re.findall(r"<h2[^>]*>([^<]+)<", source))
    assert len(headings) == 9 - len(gone) and not headings & gone


def test_dev_figures_stand_in_where_there_is_no_test_part(tmp_path, make_results):
    results = make_results()
    page = _page(tmp_path, make_results(evaluation={"dev": results.evaluation["dev"]}))
    assert "of 120 dev rows answered right" in page.text
    assert "The dev part steered the training" in page.text


@pytest.mark.parametrize("classes", [2, 20, 150])
def test_any_number_of_classes(tmp_path, make_results, classes):
    labels = [f"intent_{index}" for index in range(classes)]
    page = _page(tmp_path, make_results(labels=labels))
    assert ("more classes" in page.text) == (classes > 20)


EVIL = "<script>alert('x')</script><img src=http://evil.example/a.png onerror=alert(1)>"


def test_texts_and_labels_are_never_markup(tmp_path, make_results):
    results = make_results(labels=[EVIL, '"><svg onload=alert(1)>', "{{ 7 * 7 }} &amp; $x$"])
    figures = dict(results.evaluation["test"])
    for kind in ("mistakes", "correct"):
        figures[kind] = [{**item, "text": EVIL * 9, "text_pair": EVIL} for item in figures[kind]]
    account = {**results.account, "notes": [EVIL], "dropped": {EVIL: 20}}
    results = make_results(
        labels=[EVIL, "b"],
        title=EVIL,
        task=EVIL,
        command=EVIL,
        next_command=EVIL,
        run_folder=EVIL,
        config={EVIL: EVIL},
        environment={EVIL: EVIL},
        account=account,
        evaluation={"test": figures},
        timings={EVIL: 1.0},
    )
    page = _page(tmp_path, results)
    check_asks_nothing_of_the_network(page, (tmp_path / "report.html").read_text("utf-8"))
    assert "{{ 7 * 7 }} &amp; $x$" in page.text
    assert "<script>alert('x')</script>" in page.text


def test_strange_characters_do_not_cost_the_page(tmp_path, make_results):
    strange = "lone \ud800 null \x00 joiner \u200d right-to-left \u202e"
    page = _page(tmp_path, make_results(labels=[strange, "新闻", ""], title=strange))
    assert "lone ? null" in page.text and "新闻" in page.text


def test_a_failed_artifact_is_said_and_why(tmp_path, make_results):
    parity = dict(make_results().parity)
    parity["artifacts"] = {
        "int8": {"passed": False, "failures": ["accuracy 60.0%, the Keras model's is 95.0%"]},
        "odd": {
            "passed": False,
            "largest_score_difference": float("nan"),
            "failures": ["its scores are not numbers"],
        },
    }
    page = _page(tmp_path, make_results(parity=parity))
    assert "int8 and odd do not answer as the Keras model does." in page.text
    assert "int8: accuracy 60.0%, the Keras model's is 95.0%." in page.text
    assert "failed" in page.text and "nan" in page.text


def test_vectors_are_judged_by_what_is_near(tmp_path, make_results):
    parity = dict(make_results().parity)
    parity["artifacts"] = {
        "tflite/vector": {
            "passed": True,
            "largest_vector_difference": 0.061,
            "cosine": 0.9934,
            "neighbour_agreement": 0.98,
        }
    }
    page = _page(tmp_path, make_results(parity=parity))
    assert "mean cosine 0.993 with the Keras model’s, the same nearest text on 98.0%" in page.text
    assert "0.061" in page.text


def test_a_perfect_model_has_no_mistakes_to_show(tmp_path, make_results):
    figures = dict(make_results().evaluation["test"])
    figures |= {"mistakes": [], "confused": [], "accuracy": 1.0, "accuracy_interval": [0.97, 1.0]}
    figures["confusion"] = [[40, 0, 0], [0, 40, 0], [0, 0, 40]]
    figures["per_class"] = {
        label: {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 40} for label in "abc"
    }
    page = _page(tmp_path, make_results(evaluation={"test": figures}))
    assert "F1 is 100% for every class." in page.text
    assert "All 120 test rows are answered right." in page.text
    assert "100 %" in page.text
    assert "The most confident mistakes" not in page.text


def test_a_long_text_opens_at_a_click(tmp_path, make_results):
    _page(tmp_path, make_results())
    source = (tmp_path / "report.html").read_text("utf-8")
    assert '<details class="text"><summary>Shares fell' in source


def test_the_same_results_give_the_same_bytes(tmp_path, make_results):
    write_report(tmp_path / "a.html", make_results())
    write_report(tmp_path / "b.html", make_results())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]
