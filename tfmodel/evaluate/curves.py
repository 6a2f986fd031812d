"""How a training went: its history in, learning curves out, as SVG strings."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tfmodel.evaluate import drawing
from tfmodel.evaluate.drawing import ACCENT, INK, MUTED, WARM

Series = tuple[np.ndarray, np.ndarray]  # where, value
_NOT_SCORES = ("second", "share", "rmse")
_COLOURS = (ACCENT, WARM, INK, MUTED)
_DRAWN_POINTS = 600
_LONGEST_LABEL = 17  # characters, of which two fit beside each other
_LEGEND_LINE = 14


def learning_curves(
    history: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]], *, name: str = "curves"
) -> dict[str, str]:
    """Draw what training wrote down: the loss, the perplexity, the scores, the learning rate.

    Args:
        history: one dict per record (`{"step": 50, "loss": 0.4, "learning_rate": 1e-4}`,
            `{"step": 120, "epoch": 0, "dev_accuracy": 0.9}`), or one list per figure, as
            `keras.callbacks.History.history`. Names beginning with `dev_` or `val_` are the dev
            part's; values that are missing, None or NaN are left out.
        name: prefix of the ids inside.

    Returns:
        Caption -> SVG, for those of loss, perplexity, scores and learning rate that the history
        has.
    """
    unit, series = read_history(history)
    losses = {key: series[key] for key in series if key.split()[-1] == "loss"}
    rates = {key: series[key] for key in series if key.split()[-1] in ("learning_rate", "lr")}
    perplexities = {key: series[key] for key in series if key.split()[-1] == "perplexity"}
    scores = {
        key: points
        for key, points in series.items()
        if key not in losses | rates | perplexities
        and not any(word in key for word in _NOT_SCORES)
        and points[1].min() >= -1
        and points[1].max() <= 1
    }
    drawn = {}
    if losses:
        drawn["Loss"] = _curves(losses, unit, f"{name}-loss", title="Loss while training")
    if perplexities:
        title = "Perplexity while training"
        drawn["Perplexity"] = _curves(perplexities, unit, f"{name}-perplexity", title=title)
    if scores:
        drawn["Scores"] = _curves(scores, unit, f"{name}-scores", title="Scores while training")
    if rates:
        title = "Learning rate while training"
        drawn["Learning rate"] = _curves(rates, unit, f"{name}-rate", title=title)
    return drawn


def read_history(
    history: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
) -> tuple[str, dict[str, Series]]:
    """Turn either form of a history into one series per figure, in the order of the axis.

    Where steps are counted, a record without a `step` has no place and is left out; so is the
    mean loss of an epoch (a record with `epoch`) where single steps have theirs.

    Returns:
        What the horizontal axis counts (`step` or `epoch`), and name -> where and values, the
        names as `train loss` or `dev accuracy` (`learning_rate` alone has no part).
    """
    if isinstance(history, Mapping):
        length = max((len(values) for values in history.values()), default=0)
        records: list[Mapping[str, Any]] = [
            {key: values[index] for key, values in history.items() if index < len(values)}
            for index in range(length)
        ]
    else:
        records = list(history)
    unit = "step" if any("step" in record for record in records) else "epoch"
    single_steps = any("loss" in record and "epoch" not in record for record in records)
    points: dict[str, list[tuple[float, float]]] = {}
    for index, record in enumerate(records):
        # Keras counts epochs from 0, readers from 1.
        where = record.get("step") if unit == "step" else record.get("epoch", index) + 1
        for key, value in record.items():
            mean_loss = key == "loss" and "epoch" in record and single_steps
            if key in ("step", "epoch") or mean_loss or where is None or not _is_number(value):
                continue
            points.setdefault(_series_name(key), []).append((float(where), float(value)))
    series = {}
    for key, pairs in points.items():
        x, y = np.array(sorted(pairs, key=lambda pair: pair[0])).T
        series[key] = (x, y)
    return unit, series


def _is_number(value: object) -> bool:
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return number and math.isfinite(float(value))  # type: ignore[arg-type]


def _series_name(key: str) -> str:
    for prefix in ("dev_", "val_", "dev/", "dev."):
        if key.startswith(prefix):
            return f"dev {key[len(prefix) :]}"
    return key if key in ("learning_rate", "lr") else f"train {key}"


def _curves(series: Mapping[str, Series], unit: str, name: str, *, title: str) -> str:
    labels = {key: key.replace("_", " ").replace("f1", "F1") for key in series}
    if len(series) > 2 and len({key.split()[-1] for key in series}) == 1:  # the caption says it
        labels = {key: label.rpartition(" ")[0] for key, label in labels.items()}
    # Two stand beside each other where they fit; the drawing grows by what they need.
    columns = 2 if max(map(len, labels.values())) <= _LONGEST_LABEL else 1
    more = _LEGEND_LINE * (-(-len(series) // columns) - 1)
    ordered = sorted(series.items(), key=_train_first)
    colours = _colours_of([key for key, _ in ordered])
    with drawing.drawing_style():
        figure = drawing.new_figure(290, 220 + more)
        axes = drawing.place(figure, left=44, top=26 + more, right=284, bottom=182 + more)
        for key, points in ordered:
            is_second = [*colours.values()].count(colours[key]) > 1 and not key.startswith("train")
            _curve(axes, points, colours[key], labels[key], "--" if is_second else "-")
        axes.set(xlabel=unit)
        axes.set_xlim(0 if unit == "step" else None, None)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if name.endswith("-rate"):
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short_number(value)))
            axes.set_ylim(0, None)
        elif name.endswith("-perplexity"):
            # It falls from thousands to tens: on a plain axis all but the first steps are flat.
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        elif name.endswith("-scores"):
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        if len(series) > 1:
            axes.legend(
                loc="lower left",
                bbox_to_anchor=(-0.02, 1.0),
                ncols=columns,
                frameon=False,
                fontsize=drawing.FONT_SIZE,
                handlelength=1.2,
                columnspacing=1.2,
                borderpad=0,
                labelcolor=INK,
            )
        return drawing.to_svg(figure, name=name, title=title)


def _colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour each; of more than two, what is said of training and of dev has the same."""
    if len(names) <= 2:
        return dict(zip(names, _COLOURS, strict=False))
    subjects = [*dict.fromkeys(name.partition(" ")[2] for name in names)]
    return {
        name: _COLOURS[subjects.index(name.partition(" ")[2]) % len(_COLOURS)] for name in names
    }


def _train_first(entry: tuple[str, Series]) -> tuple[bool, bool, str]:
    key = entry[0]
    return not key.startswith("train"), not key.endswith("accuracy"), key


def _curve(axes: Axes, points: Series, colour: str, label: str, style: str) -> None:
    where, values = points
    smooth = len(values) > 60
    if smooth:
        where, values = _thinned(where, values)
        axes.plot(where, values, color=colour, alpha=0.3, linewidth=1)
        values = _running_mean(values, width=max(3, len(values) // 25))
    marker = "o" if len(values) <= 20 else None
    axes.plot(where, values, style, color=colour, marker=marker, markersize=4, label=label)


def _thinned(where: np.ndarray, values: np.ndarray) -> Series:
    """Average neighbours so that at most 600 points are drawn."""
    group = -(-len(values) // _DRAWN_POINTS)
    starts = np.arange(0, len(values), group)
    counts = np.diff(np.append(starts, len(values)))
    return np.add.reduceat(where, starts) / counts, np.add.reduceat(values, starts) / counts


def _running_mean(values: np.ndarray, *, width: int) -> np.ndarray:
    window = np.ones(width)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def _short_number(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}" if value else "0"
