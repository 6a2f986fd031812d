"""The page and the summary of tasks whose answers are no single labels."""

import numpy as np
import pytest
from parsed_page import Page, check_asks_nothing_of_the_network

from tfmodel.evaluate import labelling, regression
from tfmodel.report import summary_text, write_report

SECRET = "<b>no markup</b>"


def numbers(rows=120, *, spread=1.0):
    generator = np.random.default_rng(0)
    targets = generator.normal(2.5, 1.5, rows)
    return regression(
        targets,
        targets + generator.normal(0.4, spread, rows),
        texts=[f"text {row} {SECRET}" for row in range(rows)],
        origins=[f"test.csv:{row + 2}" for row in range(rows)],
    )


def sets(rows=120):
    generator = np.random.default_rng(0)
    targets = (generator.random((rows, 3)) < 0.4).astype(int)
    scores = np.clip(0.6 * targets + 0.5 * generator.random((rows, 3)), 0, 1)
    texts = [f"text {row} {SECRET}" for row in range(rows)]
    limits = [0.5, 0.25, 0.75]
    return labelling(targets, scores, ["joy", "fear", "an<ger"], thresholds=limits, texts=texts)


def artifacts(**figures):
    found = {"passed": True, "bytes": 1000, "precision": "int8", "failures": [], **figures}
    return {"int8": {"path": "tflite/int8.tflite", "runtime": "litert", "runtimes": {}, **found}}


@pytest.fixture
def of_numbers(make_results):
    figures = {"spearman": 0.812, "spearman_interval": [0.75, 0.86]}
    parity = {
        "task": "regress",
        "rows": 120,
        "reference": figures,
        "artifacts": artifacts(**figures, score_correlation=0.998, largest_score_difference=0.2),
    }
    evaluation = {"dev": numbers(), "test": numbers()}
    return make_results(task="regress", evaluation=evaluation, parity=parity)


@pytest.fixture
def of_sets(make_results):
    figures = {"micro_f1": 0.71, "micro_f1_interval": [0.66, 0.75]}
    parity = {
        "task": "multilabel",
        "rows": 120,
        "reference": figures,
        "artifacts": artifacts(**figures, label_agreement=0.99, largest_score_difference=0.02),
    }
    evaluation = {"dev": sets(), "test": sets()}
    return make_results(task="multilabel", evaluation=evaluation, parity=parity)


def page_of(tmp_path, results):
    path = write_report(tmp_path / "report.html", results)
    source = path.read_text("utf-8")
    page = Page(source)
    check_asks_nothing_of_the_network(page, source)
    assert SECRET not in source and "an<ger" not in source
    return source


def test_a_page_of_numbers(tmp_path, of_numbers):
    source = page_of(tmp_path, of_numbers)
    test = of_numbers.evaluation["test"]
    for words in (
        f'<p class="value">{test["spearman"]:.3f}</p>',
        "is the correlation of ranks (Spearman) over 120 test rows",
        "Dev Spearman",
        "always answering the mean would be by",
        "On the whole they are too high",
        "A dot a row of the test part",
        "Spearman (95%)",
        "0.812 (0.750–0.860)",
        "0.998",
    ):
        assert words in source, words
    assert "Mix-ups" not in source and "Calibration" not in source


def test_a_page_of_sets(tmp_path, of_sets):
    source = page_of(tmp_path, of_sets)
    test = of_sets.evaluation["test"]
    for words in (
        "is the F1 of all labels together (micro) over 120 test rows",
        f"{100 * test['micro_f1']:.1f}<small>%</small>",
        "Threshold",
        "0.75",
        "Same decisions",
        "71.0% (66.0–75.0)",
        "rows with the very labels",
    ):
        assert words in source, words
    assert "Mix-ups" not in source


@pytest.mark.parametrize("kind", ["of_numbers", "of_sets"])
def test_a_summary_is_narrow_and_names_the_figure(kind, request):
    results = request.getfixturevalue(kind)
    text = summary_text(results)
    lines = text.splitlines()
    name, column = {"of_numbers": ("Spearman", "spearman"), "of_sets": ("micro F1", "micro f1")}[
        kind
    ]
    assert lines[0].startswith(name) and "95% interval" in lines[0]
    assert any(column in line and "agrees" in line for line in lines)
    assert max(map(len, lines)) <= 80 and text.isascii()


def test_answers_that_are_all_one_number_have_no_correlation(tmp_path, make_results):
    figures = regression([1.0, 2.0, 3.0, 4.0], [2.0] * 4, texts=list("abcd"))
    results = make_results(task="regress", evaluation={"dev": figures}, parity={})
    source = page_of(tmp_path, results)
    assert '<p class="value">–</p>' in source
    assert "no interval" in summary_text(results)


@pytest.mark.parametrize("task", ["regress", "multilabel"])
def test_a_run_that_measured_nothing_yet(tmp_path, make_results, task):
    results = make_results(task=task, evaluation={}, parity={})
    source = page_of(tmp_path, results)
    assert "nothing has been measured yet" in source
