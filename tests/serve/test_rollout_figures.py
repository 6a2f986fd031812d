"""Figures of two versions on the same rows, against scikit-learn and by hand; the rule.

Run: pytest tests/serve/test_rollout_figures.py
"""

import dataclasses
import json

import numpy as np
import pytest

from tfmodel.config import ConfigError
from tfmodel.evaluate import classification, regression
from tfmodel.evaluate.answering import Question
from tfmodel.serve.rollout import Comparison, Rule, comparison_lines, write_page
from tfmodel.serve.rollout.answers import agreement, quality
from tfmodel.serve.rollout.resampling import compared, correlation, f1, latencies, means

NAMES = ["a", "b", "c"]


def labelled(numbers):
    return [{"label": NAMES[number], "score": 0.5} for number in numbers]


@pytest.fixture
def generator():
    return np.random.default_rng(5)


def test_accuracy_and_its_paired_interval(generator):
    right = generator.integers(0, 3, 400)
    old = np.where(generator.random(400) < 0.8, right, (right + 1) % 3)
    new = np.where(generator.random(400) < 0.1, (old + 1) % 3, old)
    one, other = (
        quality("classes", [NAMES[each] for each in right], labelled(given))["accuracy"]
        for given in (old, new)
    )
    found = compared(one, other)
    assert found["old"] == np.mean(old == right) and found["new"] == np.mean(new == right)
    assert found["difference"] == found["new"] - found["old"]
    # The paired difference of means has a known spread, smaller than that of two samples.
    differences = (new == right).astype(float) - (old == right)
    spread = 1.96 * differences.std() / 20
    low, high = found["difference_interval"]
    assert high - low == pytest.approx(2 * spread, rel=0.15)
    unpaired = 1.96 * np.sqrt(sum(np.var(each == right) for each in (old, new)) / 400)
    assert high - low < 1.5 * unpaired
    scores = np.eye(3)[old]
    assert found["old"] == classification(right, scores, NAMES)["accuracy"]


def test_f1_of_sets_is_scikit_learns(generator):
    from sklearn import metrics

    right, given = (generator.random((60, 3)) < 0.4 for _ in range(2))

    def named(rows):
        return [[NAMES[place] for place in np.flatnonzero(row)] for row in rows]

    answers = [{"labels": each} for each in named(given)]
    counted = quality("sets", named(right), answers)["micro_f1"]
    assert counted.value == pytest.approx(metrics.f1_score(right, given, average="micro"))
    found = agreement("sets", [{"labels": each} for each in named(right)], answers)
    assert found.rows.mean() == metrics.accuracy_score(right, given)


def test_correlations_are_those_of_the_evaluation(generator):
    right = generator.normal(size=80).round(1)
    given = right + generator.normal(size=80)
    counted = quality("number", right, [{"score": each} for each in given])
    wanted = regression(right, given)
    for name in ("spearman", "pearson"):
        assert counted[name].value == pytest.approx(wanted[name], abs=1e-9)
    assert np.isnan(correlation(right, np.ones(80)).value)
    found = compared(correlation(right, np.ones(80)), correlation(right, given))
    assert (found["old"], found["old_interval"], found["difference"]) == (None, None, None)
    assert found["new"] == pytest.approx(wanted["pearson"])
    # Far from zero, where sums of squares would lose the digits.
    far = correlation(right + 1e6, given + 1e6).value
    assert far == pytest.approx(wanted["pearson"], abs=1e-6)


def test_answers_with_places_and_words():
    def answer(*spans):
        return {"entities": [{"start": s, "end": e, "label": n, "text": "x"} for s, e, n in spans]}

    old = [answer((0, 1, "A"), (2, 3, "B")), answer()]
    new = [answer((0, 1, "A")), answer()]
    found = agreement("spans", old, new)
    assert found.rows.tolist() == [0, 1] and found.beside["entity_f1"] == pytest.approx(2 / 3)
    counted = quality("spans", [[(0, 1, "A")], [(5, 6, "A")]], old)
    assert counted["f1"].value == pytest.approx(2 * 1 / (2 + 2))
    questions = [Question("It is the blue sea.", ("blue sea",)), Question("No.", ())]
    given = [{"answer": "the blue sea"}, {"answer": "No"}]
    figures = quality("span", questions, given)
    assert (figures["f1"].value, figures["exact_match"].value) == (0.5, 0.5)
    assert agreement("span", given, [{"answer": "blue sea"}, {"answer": ""}]).rows.tolist() == [
        1,
        0,
    ]


def test_numbers_agree_within_a_tenth_of_their_spread():
    old = [{"score": each} for each in (0.0, 1.0, 2.0, 3.0)]
    new = [{"score": each} for each in (0.0, 1.05, 2.0, 4.0)]
    found = agreement("number", old, new)
    assert found.rows.tolist() == [1, 1, 1, 0]
    assert found.beside["largest_difference"] == 1 and found.beside["mean_difference"] == 1.05 / 4


def test_numbers_that_are_all_alike_agree_but_for_their_last_digits():
    old, near, far = ([{"score": 2.0 + by}] * 3 for by in (0.0, 1e-6, 0.1))
    assert agreement("number", old, near).rows.tolist() == [1, 1, 1]
    assert agreement("number", old, far).rows.tolist() == [0, 0, 0]


def test_vectors_agree_where_their_neighbours_do(generator):
    vectors = generator.normal(size=(40, 8))
    turned = vectors @ np.linalg.qr(generator.normal(size=(8, 8)))[0]
    other = generator.normal(size=(40, 6))

    def answers(rows):
        return [{"vector": row.tolist()} for row in rows]

    same = agreement("vectors", answers(vectors), answers(turned)).figures()
    assert same["agreement"] == 1 and abs(same["mean_cosine"]) < 0.9
    apart = agreement("vectors", answers(vectors), answers(other)).figures()
    assert "mean_cosine" not in apart and 0.1 < apart["agreement"] < 0.45
    assert apart["agreement_interval"][0] < apart["agreement"] < apart["agreement_interval"][1]
    assert agreement("vectors", answers(vectors[:1]), answers(turned[:1])).rows.tolist() == [1]
    pairs = np.stack([vectors, vectors + 0.1], axis=1)
    numbers = np.arange(80).reshape(2, 40).T
    found = quality("vectors", numbers, pairs)
    assert found["recall_at_10"].value == 1 and found["mrr"].value <= 1


def test_agreement_has_wilsons_interval():
    found = agreement("classes", labelled([0] * 20), labelled([0] * 20)).figures()
    assert found["agreement"] == 1 and found["agreement_interval"][0] == pytest.approx(
        0.839, abs=1e-3
    )


def test_latency_ratios_are_of_the_same_requests(generator):
    old = generator.exponential(0.01, 300) + 0.01
    found = latencies(old, 2 * old)
    assert found["requests"] == 300
    for name, percent in (("p50", 50), ("p99", 99)):
        assert found[name]["old"] == pytest.approx(1000 * np.percentile(old, percent))
        assert found[name]["ratio"] == pytest.approx(2)
        assert found[name]["ratio_interval"] == pytest.approx([2, 2])
        low, high = found[name]["old_interval"]
        assert low < found[name]["old"] < high


def figures(*, rows=100, old=0.9, new=0.9, agree=0.95, ratio=1.0, spread=0.02, labels=True):
    one, other = (means(np.arange(1000) < 1000 * each) for each in (old, new))
    quality = {"accuracy": compared(one, other)} if labels else {}
    ends = [ratio - spread, ratio + spread]
    each = {"ratio": ratio, "ratio_interval": ends}
    agreed = {"agreement": agree, "agreement_interval": [agree - spread, agree + spread]}
    return {
        "rows": rows,
        "quality": quality,
        "agreement": agreed,
        "latency": {"p50": each, "p99": each},
    }


CASES = [
    (Rule(), figures(), []),
    (Rule(), figures(rows=49), ["49 rows"]),
    (Rule(), figures(new=0.88), ["accuracy is 0.8800 after 0.9000"]),
    (Rule(max_drop=0.03), figures(new=0.88), []),
    (Rule(max_drop=0.02, strict=True), figures(new=0.88), ["accuracy"]),
    (Rule(), figures(new=0.95, agree=0.5), []),  # better is not alike
    (Rule(min_agreement=0.6), figures(new=0.95, agree=0.5), ["agree to 50.0%"]),
    (Rule(), figures(labels=False, agree=0.89), ["agree to 89.0%"]),
    (Rule(), figures(labels=False, agree=0.91), []),
    (Rule(strict=True), figures(labels=False, agree=0.91), ["agree to 91.0%"]),
    (Rule(), figures(ratio=1.51), ["p50 latency"]),
    (Rule(), figures(ratio=1.6), ["p50 latency", "p99 latency"]),
    (Rule(strict=True), figures(ratio=1.49), ["p50 latency", "p99 latency"]),
]


@pytest.mark.parametrize(("rule", "given", "wanted"), CASES, ids=range(len(CASES)))
def test_the_rule(rule, given, wanted):
    found = rule.failures(given)
    assert len(found) == len(wanted), found
    for words, part in zip(found, wanted, strict=True):
        assert part in words


def test_a_figure_that_is_no_number_does_not_pass():
    given = figures()
    nothing = correlation(np.arange(10), np.ones(10))
    given["quality"] = {"spearman": compared(nothing, nothing)}
    assert Rule().failures(given) == ["its spearman cannot be computed on these rows"]


def test_limits_of_the_rule():
    for name, value in {
        "max_drop": 1.5, "min_agreement": -1, "max_latency_ratio": 0, "min_rows": 0
    }.items():  # fmt: skip
        with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')}: expected"):
            Rule(**{name: value})


def whole(**values):
    """Figures as a comparison has them."""
    given = figures(**values)
    given["latency"] = latencies(np.full(20, 0.01), np.full(20, 0.02))
    given["agreement"] |= {"rows": 100, "means": "the same label", "entity_f1": 0.5}
    found = Rule().failures(given)
    about = {"model": "news", "old": 1, "new": 2, "at": "today", "server": "http://x:1"}
    about |= {"task": "classify", "rows_from": "rows.csv", "rule": dataclasses.asdict(Rule())}
    return {**given, **about, "failures": found, "passed": not found}


def test_a_comparison_in_words_and_as_a_page(tmp_path):
    given = whole(new=0.8)
    lines = "\n".join(comparison_lines(given))
    assert "news: version 2 beside 1, 100 rows of rows.csv" in lines
    assert "accuracy" in lines and "-0.1000 (-0.1" in lines and "x 2.00" in lines
    assert "agreement 95.0% (93.0% to 97.0%): the same label" in lines
    assert "its p50 latency is 2.00 times" in lines and "not passed:" in lines
    row = {"origin": "rows.csv:1", "text": "<script>alert(1)</script>\ud800", "text_pair": None}
    examples = [{**row, "old": "a & b", "new": "c"}]
    page = write_page(tmp_path / "page.html", Comparison(given, examples)).read_text("utf-8")
    assert "&lt;script&gt;alert(1)" in page and "<script" not in page and "a &amp; b" in page
    # A version that fails on a request has an entry too.
    nothing = {"agreement": None, "quality": {}, "latency": None, "failures": ["it fails"]}
    given = whole() | nothing | {"passed": False}
    assert comparison_lines(given)[-1] == "  it fails"
    assert "it fails" in write_page(tmp_path / "page.html", Comparison(given, [])).read_text()
    json.dumps(given)


def test_f1_of_nothing_is_zero():
    assert f1(np.zeros(3), np.zeros(3), np.zeros(3)).value == 0
