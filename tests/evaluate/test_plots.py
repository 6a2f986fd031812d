"""Drawings: legible, of the page's colours, safe to put into HTML, the same every time."""

import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest

from tfmodel.evaluate import classification, plots

SVG = "{http://www.w3.org/2000/svg}"


def _figures(classes, *, rows=400, labels=None):
    generator = np.random.default_rng(classes)
    targets = generator.integers(0, classes, rows)
    logits = generator.normal(size=(rows, classes))
    logits[np.arange(rows), targets] += 3
    odds = np.exp(logits)
    labels = labels or [f"label {index}" for index in range(classes)]
    return classification(targets, odds / odds.sum(axis=1, keepdims=True), labels), labels


def _texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def _check_belongs_in_a_page(svg, name):
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg" and root.get("width") == "100%" and root.get("viewBox")
    assert root.find(f"{SVG}title").text
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(identifier.startswith(f"{name}-") for identifier in ids)
    for element in root.iter():
        assert element.tag.startswith(SVG), "only drawing, no metadata"
        assert element.tag not in (f"{SVG}style", f"{SVG}script")
        for value in element.attrib.values():
            assert "http" not in value
            assert not value.startswith("#") or value[1:] in ids
            if "url(" in value:
                assert value.split("url(#")[1].split(")")[0] in ids
    assert "#0" not in svg.replace("&#0", ""), "a colour that the page cannot change"
    assert "DejaVu" not in svg, "the page's own font"


@pytest.mark.parametrize("classes", [2, 5, 20])
def test_confusion_matrix_names_classes_and_prints_counts(classes):
    figures, labels = _figures(classes)
    svg = plots.confusion_matrix(figures["confusion"], labels)
    _check_belongs_in_a_page(svg, "confusion")
    texts = _texts(svg)
    for label in labels:
        assert texts.count(label) == 2  # one row, one column
    counts = [str(count) for row in figures["confusion"] for count in row if count]
    for count in set(counts):
        assert texts.count(count) == counts.count(count)


@pytest.mark.parametrize("classes", [21, 150])
def test_many_classes_become_a_picture_without_labels(classes):
    figures, labels = _figures(classes)
    svg = plots.confusion_matrix(figures["confusion"], labels)
    _check_belongs_in_a_page(svg, "confusion")
    assert _texts(svg) == ["predicted", "right label"]
    assert "data:image/png;base64" in svg
    assert len(svg) < 100_000


def test_confusion_matrix_must_be_square_as_the_labels():
    with pytest.raises(ValueError, match=r"3 x 3.*Received: shape \(2, 2\)"):
        plots.confusion_matrix([[1, 0], [0, 1]], ["a", "b", "c"])


def test_labels_of_any_kind_are_drawn_as_text():
    labels = [
        "<script>alert(1)</script>",
        "$x^2$ & co",
        "新闻报道",
        "",
        "a\x00b\nc\ud800",
        "x" * 300,
    ]
    figures, _ = _figures(6, labels=labels)
    svg = plots.confusion_matrix(figures["confusion"], labels)
    _check_belongs_in_a_page(svg, "confusion")
    assert "<script" not in svg
    texts = _texts(svg)
    for shown in ["<script>alert(1)</script", "$x^2$ & co", "新闻报道", "a b c", "x" * 23 + "…"]:
        assert sum(text is not None and text.startswith(shown[:23]) for text in texts) == 2


def test_a_class_without_rows_is_an_empty_row():
    svg = plots.confusion_matrix([[2, 0], [0, 0]], ["a", "b"])
    assert _texts(svg).count("2") == 1


@pytest.mark.parametrize("classes", [2, 77])
def test_reliability_says_how_many_rows(classes):
    figures, _ = _figures(classes)
    svg = plots.reliability(figures["calibration"], name="r")
    _check_belongs_in_a_page(svg, "r")
    assert f"{max(part['count'] for part in figures['calibration'])}" in _texts(svg)
    assert "80%" in _texts(svg)


def test_two_drawings_on_a_page_share_no_id():
    figures, _ = _figures(4)
    svgs = [plots.reliability(figures["calibration"], name=name) for name in ("dev", "test")]
    ids = [{element.get("id") for element in ElementTree.fromstring(svg).iter()} for svg in svgs]
    assert ids[0] & ids[1] == {None}


def test_a_name_that_is_no_id_is_refused():
    with pytest.raises(ValueError, match="letters, digits.*Received: 'a b'"):
        plots.reliability(_figures(2)[0]["calibration"], name="a b")


def test_the_same_figures_give_the_same_bytes_whatever_the_user_has_set():
    figures, labels = _figures(30)

    def draw():
        curves = plots.learning_curves({"loss": [3.0, 2.0, 1.0], "val_accuracy": [0.1, 0.5, 0.6]})
        return (
            plots.confusion_matrix(figures["confusion"], labels),
            plots.confusion_matrix(np.eye(3, dtype=int), ["a", "b", "c"]),
            plots.reliability(figures["calibration"]),
            *curves.values(),
        )

    first = draw()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        assert draw() == first
        assert dict(matplotlib.rcParams) == before
