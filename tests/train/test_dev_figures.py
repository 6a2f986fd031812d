"""Figures of a whole part, added to the epoch's."""

import keras
import numpy as np
import pytest
import toy
from scipy import stats

import tfmodel as tm
from tfmodel.data import Split
from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import regress
from tfmodel.tokens.batches import batches
from tfmodel.train import FinetuneSettings
from tfmodel.train.finetune import finetune
from tfmodel.train.watch import Watch
from tfmodel.train.watch.answers import DevRows


def numbers(count, *, seed):
    """The toy rows; the label is how often a word stands in them, and a little of another."""
    rows = toy.rows(count, seed=seed)
    found = [text.split().count("film") + 0.1 * text.split().count("plot") for text in rows.texts]
    return Split(rows.texts, None, np.array(found, np.float32), rows.origins)


def new_model(seed=1, **arguments):
    keras.utils.set_random_seed(seed)
    config = BertConfig(
        vocabulary_size=len(toy.PIECES), hidden_size=16, layers=1, heads=2, intermediate_size=32,
        max_positions=12,
    )  # fmt: skip
    return regress.build(build_encoder(config, sequence=False), **arguments)


def fit(*others, rows=9):
    """Train with figures of dev; the last batch of dev has one row."""
    train, dev = numbers(48, seed=0), numbers(rows, seed=9)
    model = new_model()
    training = tm.TrainingModel(model)
    training.compile(
        tm.adamw(0.01), loss=regress.loss(), metrics=regress.metrics(), jit_compile=False
    )
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append({name: value for name, value in logs.items() if name.startswith("val_")})

    figures = tm.callbacks.DevFigures(lambda outputs: regress.dev_figures(dev.labels, outputs))
    training.fit(
        batches(train.texts, train.labels, tokenizer=toy.tokenizer(), batch_size=8),
        validation_data=batches(dev.texts, dev.labels, tokenizer=toy.tokenizer(), batch_size=8),
        epochs=2,
        verbose=0,
        shuffle=False,
        callbacks=[figures, *others, Seen()],
    )
    answers = model.predict(batches(dev.texts, tokenizer=toy.tokenizer()), verbose=0)
    return seen, answers[:, 0], dev


def test_they_are_of_all_answers_at_once():
    seen, answers, dev = fit()
    assert [set(each) for each in seen] == [
        {"val_loss", "val_rmse", "val_pearson", "val_spearman"}
    ] * 2
    assert seen[-1]["val_spearman"] == pytest.approx(stats.spearmanr(dev.labels, answers)[0])
    wanted = stats.pearsonr(dev.labels, answers)[0]
    assert seen[-1]["val_pearson"] == pytest.approx(wanted, abs=1e-4)  # other batches, other sums


def test_the_best_of_them_is_kept_and_watched(tmp_path):
    class Notes:
        def __init__(self):
            self.figures, self.shown = {}, {}

        def start(self, config, *, step):
            pass

        def log(self, step, figures):
            self.figures |= figures

        def image(self, step, name, png):
            self.shown[name] = png

        def table(self, step, name, rows):
            self.shown[name] = rows

        def flush(self):
            pass

        def finish(self, figures):
            self.figures |= figures

    notes, dev = Notes(), numbers(9, seed=9)
    best = tm.callbacks.KeepBest("val_spearman")
    rows = DevRows(dev.labels, [], dev.texts, task=regress)
    seen, _, _ = fit(best, Watch([notes], dev=rows, monitor="val_spearman"))
    assert best.best[0] == max(each["val_spearman"] for each in seen)
    assert notes.figures["dev_spearman"] == pytest.approx(best.best[0])
    assert notes.shown["dev/scatter"].startswith(b"\x89PNG")
    table = notes.shown["dev/mistakes"]
    assert set(table[0]) == {"score", "predicted", "text"} and len(table) == 9


def test_another_model_is_refused():
    model = new_model()
    model.compile("adam", loss=regress.loss(), jit_compile=False)
    train = numbers(8, seed=0)
    given = batches(train.texts, train.labels, tokenizer=toy.tokenizer())
    figures = tm.callbacks.DevFigures(lambda outputs: {})
    with pytest.raises(ValueError, match="Expected a TrainingModel.* Received: Functional"):
        model.fit(given, callbacks=[figures], verbose=0, shuffle=False)


def test_a_training_chooses_its_epoch_by_them(tmp_path):
    train, dev = numbers(90, seed=0), numbers(41, seed=9)
    model = new_model(**regress.head_arguments([], train.labels))
    result = finetune(
        model, toy.tokenizer(), train, dev, task=regress, labels=[],
        settings=FinetuneSettings(**{**toy.SETTINGS, "epochs": 6, "patience": None}),
        checkpoints=tmp_path,
    )  # fmt: skip
    figures = [(epoch["dev_spearman"], -epoch["dev_loss"]) for epoch in result.epochs]
    assert result.best_epoch == figures.index(max(figures)) and max(figures)[0] > 0.8
    answers = model.predict(batches(dev.texts, tokenizer=toy.tokenizer()), verbose=0)
    assert stats.spearmanr(dev.labels, answers[:, 0])[0] == pytest.approx(max(figures)[0], abs=1e-6)
