"""Fine-tuning on a toy set: it learns, keeps the best epoch, and says what goes wrong."""

import keras
import numpy as np
import pytest
import toy

from tfmodel.config import ConfigError
from tfmodel.data import Split
from tfmodel.tasks import classify
from tfmodel.tokens.batches import batches
from tfmodel.train import FinetuneSettings, callbacks, linear_schedule
from tfmodel.train.finetune import finetune


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training of 6 epochs that nothing disturbs; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    model, result = toy.train(folder / "checkpoints", epochs=6, patience=None, logs=folder / "logs")
    return model, result, folder


def accuracy(model, split):
    dataset = batches(split.texts, tokenizer=toy.tokenizer())
    return (model.predict(dataset, verbose=0).argmax(1) == split.labels).mean()


def test_it_learns(trained):
    model, result, _ = trained
    losses = [step["loss"] for step in result.steps]
    assert np.mean(losses[-6:]) < 0.3 < 0.6 < np.mean(losses[:6])
    assert result.epochs[-1]["dev_accuracy"] > 0.9
    assert accuracy(model, toy.rows(100, seed=77)) > 0.9


def test_figures_are_those_of_the_run(trained):
    _, result, _ = trained
    assert [step["step"] for step in result.steps] == list(range(1, 37))  # 6 epochs of 6 batches
    assert [epoch["step"] for epoch in result.epochs] == [6, 12, 18, 24, 30, 36]
    assert [epoch["epoch"] for epoch in result.epochs] == [0, 1, 2, 3, 4, 5]
    assert set(result.epochs[0]) == {
        "epoch",
        "step",
        "loss",
        "accuracy",
        "dev_loss",
        "dev_accuracy",
    }
    assert result.examples == 6 * 90
    texts = toy.rows().texts
    assert result.tokens == 6 * sum(len(text.split()) + 2 for text in texts)
    assert 0 < result.padding_share < 0.2
    assert result.resumed_at_steps == [] and not result.stopped_early
    assert result.seconds > 0
    # The loss of an epoch is the mean of its rows: 5 batches of 16 and one of 10, in some order.
    first = [step["loss"] for step in result.steps[:6]]
    assert min(first) < result.epochs[0]["loss"] < max(first)


def test_the_rate_rises_and_falls(trained):
    _, result, _ = trained
    rates = np.array([step["learning_rate"] for step in result.steps])
    expected = linear_schedule(0.03, total_steps=36)
    np.testing.assert_allclose(rates, [float(expected(step)) for step in range(36)], rtol=1e-6)
    assert rates.argmax() == 3  # 10% of 36 steps


def test_the_best_epochs_weights_are_restored(trained):
    model, result, _ = trained
    # Of equal accuracies the one with the lower loss.
    figures = [(epoch["dev_accuracy"], -epoch["dev_loss"]) for epoch in result.epochs]
    assert result.best_epoch == figures.index(max(figures))
    assert accuracy(model, toy.rows(40, seed=9)) == pytest.approx(max(figures)[0])


def test_patience_ends_a_training_that_does_not_get_better(tmp_path):
    # Labels that nothing in the text decides: dev figures get worse while training goes on.
    dev = toy.rows(40, seed=9)
    dev = Split(dev.texts, None, 1 - dev.labels, dev.origins)
    model, result = toy.train(tmp_path, dev=dev, epochs=12, patience=2, monitor="loss")
    assert result.stopped_early
    assert len(result.epochs) == result.best_epoch + 3
    losses = [epoch["dev_loss"] for epoch in result.epochs]
    assert losses.index(min(losses)) == result.best_epoch
    given = batches(dev.texts, dev.labels, tokenizer=toy.tokenizer())
    assert model.evaluate(given, verbose=0)[0] == pytest.approx(min(losses), rel=1e-4)


def test_without_dev_rows_the_last_weights_stay(tmp_path):
    model = toy.new_model()
    result = finetune(
        model, toy.tokenizer(), toy.rows(), task=classify, labels=toy.LABELS,
        settings=FinetuneSettings(**{**toy.SETTINGS, "epochs": 1}), checkpoints=tmp_path,
    )  # fmt: skip
    assert result.best_epoch is None and not result.stopped_early
    assert set(result.epochs[0]) == {"epoch", "step", "loss", "accuracy"}


def test_batches_by_tokens_see_every_row_in_every_epoch(tmp_path):
    _, result = toy.train(tmp_path, batch_size=None, batch_tokens=100, epochs=3, patience=None)
    assert result.examples == 3 * 90
    assert len(result.steps) % 3 == 0
    assert result.padding_share < 0.1


def test_class_weights_move_the_answers(tmp_path):
    def share_of_good(name, **changed):
        uneven = toy.rows(60)
        keep = np.flatnonzero((uneven.labels == 0) | (np.arange(60) % 4 == 0))
        train = Split([uneven.texts[i] for i in keep], None, uneven.labels[keep], [""] * len(keep))
        model, result = toy.train(tmp_path / name, train=train, epochs=1, patience=None, **changed)
        dataset = batches(toy.rows(80, seed=5).texts, tokenizer=toy.tokenizer())
        return classify.probabilities(model.predict(dataset, verbose=0))[:, 1].mean(), result

    plain, result = share_of_good("plain")
    weighted, other = share_of_good("weighted", class_weights={"good": 30.0})
    balanced, _ = share_of_good("balanced", class_weights="balanced")
    assert other.steps[0]["loss"] > 2 * result.steps[0]["loss"]
    assert plain < balanced < weighted


def test_class_weights_name_labels(tmp_path):
    with pytest.raises(
        ConfigError, match=r"class_weights must name labels of the data \(bad, good\). Received: sp"
    ):
        toy.train(tmp_path, class_weights={"spam": 2.0})


def test_pairs_are_trained_on(tmp_path):
    rows = toy.rows()
    pairs = Split(["the film"] * 90, rows.texts, rows.labels, rows.origins)
    _, result = toy.train(tmp_path, train=pairs, dev=pairs, epochs=1)
    assert result.tokens == sum(min(len(text.split()) + 5, 12) for text in rows.texts)


def test_mixed_precision_learns_too(tmp_path):
    from tfmodel.model import BertConfig, build_encoder

    keras.utils.set_random_seed(1)
    config = BertConfig(
        vocabulary_size=len(toy.PIECES), hidden_size=16, layers=1, heads=2, intermediate_size=32,
        max_positions=12,
    )  # fmt: skip
    encoder = build_encoder(config, sequence=False, dtype="mixed_bfloat16")
    model = classify.build(encoder, classes=2)
    _, result = toy.train(tmp_path, model=model, precision="bfloat16", epochs=5)
    assert max(epoch["dev_accuracy"] for epoch in result.epochs) > 0.9
    assert {w.dtype for w in model.trainable_weights} == {"float32"}


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    model = toy.new_model()
    embeddings = model.get_layer("encoder").get_layer("embeddings")
    embeddings.token_table.assign(np.full(embeddings.token_table.shape, np.nan))
    with pytest.raises(
        FloatingPointError, match="The loss is nan at step 1 .* Lower train.learning_rate, or try"
    ):
        toy.train(tmp_path, model=model)
    assert not [*tmp_path.glob("last/*")] and not (tmp_path / "best").exists()


def test_settings_must_be_resolved(tmp_path):
    with pytest.raises(ValueError, match=r"without auto. .* Call settings.resolve\(hidden_size="):
        toy.train(tmp_path, precision="auto")


# --- callbacks in a script of one's own ---------------------------------------------------


def test_callbacks_work_in_a_plain_fit(tmp_path):
    from tfmodel.tokens import Batches
    from tfmodel.tokens.batches import TokenRows
    from tfmodel.train import adamw
    from tfmodel.train.checkpoint import Checkpoint

    model, rows = toy.new_model(), toy.rows()
    fed = Batches(TokenRows.from_texts(toy.tokenizer(), rows.texts), rows.labels, batch_tokens=200)
    recorder = callbacks.StepRecorder(fed)
    best = callbacks.KeepBest("val_loss", patience=None, checkpoint=Checkpoint(tmp_path / "best"))
    resume = callbacks.Resume(tmp_path, fed, remember=[recorder, best], seconds=1e-6, key="mine")
    model.compile(adamw(0.01), loss=classify.loss(), jit_compile=False)
    dev = batches(rows.texts, rows.labels, tokenizer=toy.tokenizer())
    model.fit(
        fed.dataset(), epochs=2, validation_data=dev, verbose=0, shuffle=False,
        callbacks=[callbacks.StopOnNaN(), recorder, best, resume],
    )  # fmt: skip
    assert len(recorder.history) == 2 * len(fed)
    assert recorder.examples == 180
    assert best.best_epoch in (0, 1)
    state = Checkpoint(tmp_path / "last").state()
    assert (state["epoch"], state["key"]) == (1, "mine") and state["batch"] > 0
