"""Learning curves from what training writes down, of either form."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tfmodel.evaluate import curves, plots

STEPS = [
    {"step": step, "loss": 1 / step, "learning_rate": 1e-4, "tokens_per_second": 5000.0}
    for step in range(1, 7)
]
EPOCHS = [
    {"epoch": 0, "step": 3, "loss": 0.7, "accuracy": 0.6, "dev_loss": 0.5, "dev_accuracy": 0.8},
    {"epoch": 1, "step": 6, "loss": 0.2, "accuracy": 0.9, "dev_loss": 0.4, "dev_accuracy": 0.85},
]


def _texts(svg):
    root = ElementTree.fromstring(svg)
    return [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_steps_and_epochs_share_one_axis():
    unit, series = curves.read_history(STEPS + EPOCHS)
    assert unit == "step"
    # The epochs' mean loss would only repeat the steps'.
    np.testing.assert_array_equal(series["train loss"][0], [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(series["dev accuracy"], [[3, 6], [0.8, 0.85]])
    np.testing.assert_array_equal(series["train accuracy"], [[3, 6], [0.6, 0.9]])
    assert "learning_rate" in series


def test_a_keras_history_counts_epochs_from_one():
    unit, series = curves.read_history({"loss": [1.0, 0.5], "val_accuracy": [0.5, 0.75]})
    assert unit == "epoch"
    np.testing.assert_array_equal(series["train loss"], [[1, 2], [1.0, 0.5]])
    np.testing.assert_array_equal(series["dev accuracy"], [[1, 2], [0.5, 0.75]])


def test_missing_values_are_left_out():
    history = {"step": [1, 2, 3], "loss": [1.0, None, float("nan")], "dev_accuracy": ["x"]}
    _, series = curves.read_history(history)
    np.testing.assert_array_equal(series["train loss"], [[1], [1.0]])
    assert list(series) == ["train loss"]


def test_a_record_without_a_step_has_no_place_among_steps():
    _, series = curves.read_history([*STEPS, {"epoch": 0, "dev_accuracy": 0.9}])
    assert "dev accuracy" not in series


def test_each_kind_of_figure_has_its_drawing():
    drawn = plots.learning_curves(STEPS + EPOCHS)
    assert list(drawn) == ["Loss", "Scores", "Learning rate"]
    assert {"train loss", "dev loss"} <= set(_texts(drawn["Loss"]))
    assert {"train accuracy", "dev accuracy"} <= set(_texts(drawn["Scores"]))
    assert "85%" in _texts(drawn["Scores"]) or "80%" in _texts(drawn["Scores"])
    assert all("tokens" not in (text or "") for svg in drawn.values() for text in _texts(svg))


def test_many_curves_have_room_for_their_names_and_a_colour_for_each_subject():
    names = ["questions", "similarity", "entities"]
    history = {f"{part}{name} loss": [2.0, 1.0] for name in names for part in ("", "dev_")}
    (svg,) = plots.learning_curves(history).values()
    assert {f"{part} {name}" for name in names for part in ("train", "dev")} <= {*_texts(svg)}
    (two,) = plots.learning_curves({"loss": [2.0, 1.0], "dev_loss": [2.0, 1.0]}).values()
    assert "train loss" in _texts(two)
    heights = [float(ElementTree.fromstring(each).get("viewBox").split()[3]) for each in (two, svg)]
    assert heights[1] > heights[0]
    colours = curves._colours_of([f"{part} {name}" for part in ("train", "dev") for name in names])
    assert len({*colours.values()}) == 3
    assert colours["train entities"] == colours["dev entities"]


@pytest.mark.parametrize("history", [(), {}, [{}], {"loss": []}, [{"step": 1}]])
def test_no_history_gives_no_drawing(history):
    assert plots.learning_curves(history) == {}


@pytest.mark.parametrize("steps", [1, 2, 100, 20_000])
def test_any_number_of_steps_gives_a_small_drawing(steps):
    history = {"step": range(1, steps + 1), "loss": np.linspace(2, 0.1, steps)}
    (svg,) = plots.learning_curves(history).values()
    assert len(svg) < 60_000
    assert "step" in _texts(svg)
