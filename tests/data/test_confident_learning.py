"""Confident learning: against the paper's formulas written out row by row, and by hand.

Run: pytest tests/data/test_confident_learning.py
"""

import numpy as np
import pytest

from tfmodel.data.confident_learning import (
    class_thresholds,
    confident_joint,
    estimated_joint,
    find_label_issues,
    noise_matrix,
    normalized_margin,
    self_confidence,
)

METHODS = ("both", "by_class", "by_noise_rate", "confident_joint")

# Two classes; the last row of each is labelled as the other one.
LABELS = np.array([0, 0, 0, 1, 1, 1, 1])
PROBABILITIES = np.array(
    [[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9], [0.4, 0.6], [0.95, 0.05]]
)


def random_case(seed, *, rows=300, classes=5, wrong_share=0.2, surety=2.0):
    """Labels of which some are wrong, and probabilities that lean to the right one."""
    generator = np.random.default_rng(seed)
    right = generator.integers(classes, size=rows)
    labels = np.where(
        generator.random(rows) < wrong_share, generator.integers(classes, size=rows), right
    )
    logits = generator.normal(size=(rows, classes)) + surety * np.eye(classes)[right]
    exponentials = np.exp(logits)
    return labels, exponentials / exponentials.sum(axis=1, keepdims=True), right


# --- the paper, row by row ----------------------------------------------------------------


def thresholds_by_the_paper(labels, probabilities):
    found = []
    for j in range(len(probabilities[0])):
        own = [p[j] for label, p in zip(labels, probabilities, strict=True) if label == j]
        found.append(sum(own) / len(own) if own else float("inf"))
    return found


def counted_by_the_paper(labels, probabilities):
    """For each row the class it is counted for, or None."""
    thresholds = thresholds_by_the_paper(labels, probabilities)
    found = []
    for p in probabilities:
        reached = [(p[j], -j) for j in range(len(p)) if p[j] >= thresholds[j]]
        found.append(-max(reached)[1] if reached else None)
    return found


def joint_by_the_paper(labels, probabilities):
    classes = range(len(probabilities[0]))
    seen = list(zip(labels, counted_by_the_paper(labels, probabilities), strict=True))
    joint = []
    for i in classes:
        counted = [sum(pair == (i, j) for pair in seen) for j in classes]
        size = sum(label == i for label in labels)
        if sum(counted):
            joint.append([count / sum(counted) * size for count in counted])
        else:
            joint.append([size if i == j else 0 for j in classes])
    total = sum(map(sum, joint))
    return [[cell / total for cell in row] for row in joint]


def issues_by_the_paper(labels, probabilities, method):
    rows, classes = range(len(labels)), range(len(probabilities[0]))
    joint = joint_by_the_paper(labels, probabilities)
    if method == "confident_joint":
        counted = counted_by_the_paper(labels, probabilities)
        return {row for row in rows if counted[row] not in (None, labels[row])}
    if method == "both":
        by_class, by_noise_rate = (
            issues_by_the_paper(labels, probabilities, each) for each in METHODS[1:3]
        )
        return by_class & by_noise_rate
    found = set()
    for i in classes:
        members = [row for row in rows if labels[row] == i]
        if method == "by_class":
            members.sort(key=lambda row: probabilities[row][i])
            count = round(len(labels) * sum(joint[i][j] for j in classes if j != i))
            found.update(members[:count])
        else:
            for j in classes:
                members.sort(key=lambda row: probabilities[row][j] - probabilities[row][i])
                count = round(len(labels) * joint[i][j]) if j != i else 0
                found.update(members[len(members) - count :])
    return found


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_and_joint_are_the_papers(seed):
    labels, probabilities, _ = random_case(seed, classes=2 + seed)
    plain = (labels.tolist(), probabilities.tolist())
    assert class_thresholds(labels, probabilities) == pytest.approx(thresholds_by_the_paper(*plain))
    counted = confident_joint(labels, probabilities)
    joint = estimated_joint(counted, np.bincount(labels))
    np.testing.assert_allclose(joint, joint_by_the_paper(*plain), atol=1e-12)
    assert joint.sum() == pytest.approx(1)
    # Each class keeps its own share of the rows.
    np.testing.assert_allclose(joint.sum(axis=1), np.bincount(labels) / len(labels))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(4))
def test_disputed_rows_are_the_papers_and_ranked(method, seed):
    labels, probabilities, _ = random_case(seed, classes=2 + seed)
    issues = find_label_issues(labels, probabilities, method=method)
    expected = issues_by_the_paper(labels.tolist(), probabilities.tolist(), method)
    assert expected and {*issues.rows.tolist()} == expected
    assert (np.diff(issues.scores) >= 0).all()
    assert issues.scores == pytest.approx(self_confidence(labels, probabilities)[issues.rows])
    assert issues.margins == pytest.approx(normalized_margin(labels, probabilities)[issues.rows])
    other = find_label_issues(labels, probabilities, method=method, ranking="normalized_margin")
    assert {*other.rows.tolist()} == expected and (np.diff(other.scores) >= 0).all()
    assert other.scores == pytest.approx(other.margins)
    assert (issues.suggested != labels[issues.rows]).all()


# --- by hand ------------------------------------------------------------------------------


def test_two_classes_by_hand():
    # Means of the own class: (0.9 + 0.8 + 0.2) / 3 and (0.7 + 0.9 + 0.6 + 0.05) / 4.
    assert class_thresholds(LABELS, PROBABILITIES) == pytest.approx([0.6333, 0.5625], abs=1e-4)
    counted = confident_joint(LABELS, PROBABILITIES)
    assert counted.tolist() == [[2, 1], [1, 3]]
    issues = find_label_issues(LABELS, PROBABILITIES)
    assert issues.rows.tolist() == [6, 2] and issues.suggested.tolist() == [0, 1]
    assert issues.scores == pytest.approx([0.05, 0.2])
    assert issues.margins == pytest.approx([-0.9, -0.6])
    assert issues.joint == pytest.approx(np.array([[2, 1], [1, 3]]) / 7)
    assert issues.noise_share == pytest.approx(2 / 7)
    # Of the rows that are right as 0, two of three are labelled so.
    assert noise_matrix(issues.joint) == pytest.approx(np.array([[2 / 3, 1 / 4], [1 / 3, 3 / 4]]))
    assert self_confidence(LABELS, PROBABILITIES)[-1] == pytest.approx(0.05)


def test_a_row_that_reaches_several_thresholds_counts_for_the_likeliest():
    labels = np.array([0, 0, 1, 1, 2, 2])
    probabilities = np.array(
        [
            [0.50, 0.30, 0.20],
            [0.40, 0.30, 0.30],
            [0.35, 0.35, 0.30],
            [0.34, 0.36, 0.30],
            [0.46, 0.14, 0.40],  # reaches those of 0 (0.45) and 2 (0.35)
            [0.30, 0.40, 0.30],
        ]
    )
    counted = confident_joint(labels, probabilities)
    assert counted.tolist() == [[1, 0, 0], [0, 1, 0], [1, 1, 0]]
    # Rows 1 and 2 reach no threshold and are counted nowhere.
    assert counted.sum() == 4


def test_most_of_the_wrong_labels_are_found_and_few_others():
    labels, probabilities, right = random_case(0, rows=5000, surety=4.0)
    wrong = labels != right
    issues = find_label_issues(labels, probabilities)
    hits = wrong[issues.rows]
    assert hits.sum() > 0.9 * wrong.sum() and hits.mean() > 0.8
    assert issues.noise_share == pytest.approx(wrong.mean(), abs=0.06)
    assert (issues.suggested == right[issues.rows])[hits].mean() > 0.9
    assert hits[: wrong.sum() // 2].mean() > 0.99


# --- edges --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_right_labels_are_not_disputed(method):
    labels = np.arange(40) % 4
    issues = find_label_issues(labels, 0.96 * np.eye(4)[labels] + 0.01, method=method)
    assert issues.rows.size == issues.scores.size == issues.suggested.size == 0
    assert issues.noise_share == 0


@pytest.mark.parametrize("method", METHODS)
def test_classes_without_rows_are_never_suggested(method):
    labels, probabilities, _ = random_case(1, classes=3)
    wide = np.zeros((len(labels), 5))
    wide[:, [0, 2, 4]] = probabilities * 0.9
    wide[:, 1] = wide[:, 3] = 0.05
    spread = np.array([0, 2, 4])
    assert class_thresholds(spread[labels], wide)[[1, 3]].tolist() == [np.inf] * 2
    issues = find_label_issues(spread[labels], wide, method=method)
    narrow = find_label_issues(labels, probabilities, method=method)
    assert issues.rows.tolist() == narrow.rows.tolist()
    assert issues.suggested.tolist() == spread[narrow.suggested].tolist()
    assert issues.joint[[1, 3]].sum() == issues.joint[:, [1, 3]].sum() == 0
    assert np.isfinite(noise_matrix(issues.joint)).all()


@pytest.mark.parametrize("method", METHODS)
def test_one_row_and_classes_of_one_row_are_never_disputed(method):
    one = find_label_issues(np.array([1]), np.array([[0.9, 0.1]]), method=method)
    assert one.rows.size == 0 and one.joint.sum() == 1
    labels = np.array([0, 0, 0, 1])  # no model that judged the last row had seen its class
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.9, 0.1], [1.0, 0.0]])
    assert 3 not in find_label_issues(labels, probabilities, method=method).rows


def test_a_class_of_which_no_row_is_counted_is_taken_to_be_right():
    joint = estimated_joint(np.array([[3, 1], [0, 0]]), np.array([8, 2]))
    assert joint == pytest.approx(np.array([[0.6, 0.2], [0, 0.2]]))


@pytest.mark.parametrize(
    ("labels", "probabilities", "words"),
    [
        (
            [0, 1],
            [[0.5, 0.5], [0.7, 0.7]],
            r"sum to 1 in each row. Received: \[0.7, 0.7\] in row 1",
        ),
        ([0, 1], [[1.5, -0.5], [0.5, 0.5]], "not negative"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], r"Received: \[nan, 0.5\] in row 1"),
        ([0, 1], [[np.inf, 0.5], [0.5, 0.5]], "Received: .inf"),
        ([0, 1], [[3.2, -1.0], [0.1, 2.0]], "softmax of the logits"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "from 0 to 1, .* Received: 0 to 2"),
        ([-1, 0], [[0.5, 0.5], [0.5, 0.5]], "Received: -1 to 0"),
        ([0.0, 1.0], [[0.5, 0.5], [0.5, 0.5]], "whole numbers. Received: float64"),
        ([0], [[0.5, 0.5], [0.5, 0.5]], r"shapes \(1,\) and \(2, 2\)"),
        ([0, 0], [[1.0], [1.0]], "two classes or more"),
        ([], np.zeros((0, 2)), "one row"),
    ],
)
def test_what_is_no_probability_or_label_is_refused(labels, probabilities, words):
    for function in (find_label_issues, class_thresholds, confident_joint, normalized_margin):
        with pytest.raises(ValueError, match=words):
            function(np.array(labels), np.array(probabilities))


def test_nothing_given_is_changed():
    labels, probabilities = LABELS.copy(), PROBABILITIES.copy()
    for method in METHODS:
        find_label_issues(labels, probabilities, method=method)
    assert (labels == LABELS).all() and (probabilities == PROBABILITIES).all()
