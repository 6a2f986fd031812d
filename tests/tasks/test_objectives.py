"""Pairs, replaced tokens and SimCSE against their definitions."""

import keras
import needs
import numpy as np
import pytest
import tensorflow as tf

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.model import BertConfig, build_encoder, load_encoder
from tfmodel.tasks import electra, fill, pair, simcse
from tfmodel.tasks.tied_cross_entropy import draw_tied
from tfmodel.tokens import Tokenizer, Vocabulary

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
CONFIG = BertConfig(
    vocabulary_size=len(PIECES), hidden_size=16, layers=2, heads=4, intermediate_size=32,
    max_positions=12, dropout=0.1, attention_dropout=0.1,
)  # fmt: skip
TARGETS = np.array([[6, 9, 5], [12, 8, 0]], np.int32)
WEIGHTS = np.array([[1, 1, 1], [1, 1, 0]], np.float32)


def new_model(task, **arguments):
    keras.utils.set_random_seed(0)
    model = task.build(build_encoder(CONFIG), **arguments)
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign_add(random.normal(size=weight.shape, scale=0.3).astype(np.float32))
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(Vocabulary(PIECES), max_length=10)


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(1)
    return {
        "token_ids": random.integers(2, len(PIECES), (2, 9)).astype(np.int32),
        "segment_ids": np.array([[0] * 5 + [1] * 4, [0] * 4 + [1] * 5], np.int32),
        "padding_mask": np.array([[1] * 8 + [0], [1] * 9], np.int32),
        "masked_positions": np.array([[2, 7, 4], [5, 1, 0]], np.int32),
    }


def tokens_of(batch):
    return {name: batch[name] for name in ("token_ids", "segment_ids", "padding_mask")}


def test_an_objective_is_found_by_name():
    assert tasks.find_objective("mlm") is fill and tasks.find_objective("sop") is pair
    with pytest.raises(ConfigError, match=r"objective.name must be one of mlm, .*Received: 'clm'"):
        tasks.find_objective("clm")


# --- pairs --------------------------------------------------------------------------------


def test_both_heads_stand_on_one_encoder(batch):
    model = new_model(pair)
    found = model(batch)
    pooled = model.encoder(tokens_of(batch))["pooled"].numpy()
    head = model.get_layer("pair_head")
    np.testing.assert_allclose(
        found["pair_labels"], pooled @ head.kernel.numpy() + head.bias.numpy(), atol=1e-5
    )
    targets = {"masked_ids": TARGETS, "pair_labels": np.array([1, 0], np.int32)}
    weights = {"masked_ids": WEIGHTS, "pair_labels": np.array([1, 0], np.float32)}
    masked, pairs = pair.sums(model, batch, targets, weights, training=False)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(TARGETS, found["masked_ids"])
    np.testing.assert_allclose(masked[0], tf.reduce_sum(losses * WEIGHTS), rtol=1e-5)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits([1, 0], found["pair_labels"])
    np.testing.assert_allclose(pairs[0], losses[0], rtol=1e-5)
    assert pairs[1] == (np.argmax(found["pair_labels"][0]) == 1)
    assert [float(count) for count in pair.counts(batch, targets, weights)] == [5, 1]


def test_a_saved_pair_model_answers_the_same(batch, tokenizer, tmp_path):
    model = new_model(pair)
    folder = pair.save(model, tmp_path / "model", tokenizer=tokenizer)
    loaded = pair.load(folder).model
    for name, values in model(batch).items():
        np.testing.assert_array_equal(loaded(batch)[name], values)
    filled = fill.load(folder).model  # its one head is there, too
    np.testing.assert_allclose(filled(batch), model(batch)["masked_ids"], atol=1e-5)
    begun = pair.build(load_encoder(folder))
    assert pair.take_up_head(begun, folder)
    np.testing.assert_array_equal(begun(batch)["pair_labels"], model(batch)["pair_labels"])
    alone = fill.save(filled, tmp_path / "fill", tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="no cls.seq_relationship.weight"):
        pair.load(alone)
    assert pair.take_up_head(begun, alone)


@pytest.mark.slow
def test_transformers_loads_both_heads(batch, tokenizer, tmp_path):
    torch = needs.package("torch")
    transformers = needs.package("transformers")
    model = new_model(pair)
    folder = pair.save(model, tmp_path / "ours", tokenizer=tokenizer)
    theirs = transformers.BertForPreTraining.from_pretrained(folder).eval()
    given = {name: torch.tensor(value, dtype=torch.long) for name, value in batch.items()}

    def answers(their):
        with torch.no_grad():
            found = their(
                input_ids=given["token_ids"],
                token_type_ids=given["segment_ids"],
                attention_mask=given["padding_mask"],
            )
        places = batch["masked_positions"][..., None]
        logits = np.take_along_axis(found.prediction_logits.numpy(), places, axis=1)
        return {"masked_ids": logits, "pair_labels": found.seq_relationship_logits.numpy()}

    for name, values in answers(theirs).items():
        np.testing.assert_allclose(model(batch)[name], values, atol=1e-4)
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    loaded = pair.load(tmp_path / "theirs").model
    for name, values in answers(theirs).items():
        np.testing.assert_allclose(loaded(batch)[name], values, atol=1e-4)


# --- replaced tokens ----------------------------------------------------------------------


def test_ids_are_drawn_by_their_probability():
    random = np.random.default_rng(0)
    vectors, table = random.normal(size=(1, 4)), random.normal(size=(6, 4))
    bias = random.normal(size=6)
    count = 20_000
    many = np.repeat(vectors, count, axis=0)
    given = [tf.constant(each, tf.float32) for each in (many, table, bias, random.random(count))]
    drawn = draw_tied(*given).numpy()
    expected = tf.nn.softmax(vectors @ table.T + bias)[0].numpy()
    shares = np.bincount(drawn, minlength=6) / count
    spread = np.sqrt(expected * (1 - expected) / count)
    assert (np.abs(shares - expected) < 4 * spread).all()
    last = draw_tied(*given[:3], tf.fill((count,), np.float32(1 - 1e-7)))
    assert last.numpy().max() == 5


def test_the_discriminator_sees_what_was_drawn(batch):
    model = new_model(electra)
    original = batch["token_ids"].copy()
    targets = np.take_along_axis(original, batch["masked_positions"], axis=1)
    hidden = original.copy()
    hidden[0, [2, 7, 4]] = hidden[1, [5, 1]] = 4
    inputs = {**batch, "token_ids": hidden, "original_ids": original}
    drawn = np.array([[targets[0, 0], 5, 6], [7, targets[1, 1], 9]], np.int32)
    model.get_layer("masked_logits").draw = lambda vectors, uniforms: tf.constant(drawn.ravel())
    seen = original.copy()
    seen[0, 7], seen[0, 4], seen[1, 5] = 5, 6, 7  # of the place of no weight nothing
    replaced = (seen != original).astype(np.float32)
    _, found = electra.sums(model, inputs, targets, WEIGHTS, training=False)
    logits = model({**tokens_of(batch), "token_ids": seen})
    assert logits.shape == (2, 9) and logits.dtype == tf.float32
    losses = tf.nn.sigmoid_cross_entropy_with_logits(replaced, logits) * batch["padding_mask"]
    np.testing.assert_allclose(found[0], tf.reduce_sum(losses), rtol=1e-5)
    right = ((logits.numpy() > 0) == (replaced > 0)) * batch["padding_mask"]
    assert found[1] == right.sum()
    assert [float(c) for c in electra.counts(inputs, targets, WEIGHTS)] == [5, 17]


def test_the_generator_is_a_quarter_and_shares_the_embeddings(batch, tokenizer, tmp_path):
    model = new_model(electra)
    own = {id(weight) for weight in model.encoder.trainable_weights}
    generator = {id(weight) for weight in model.generator.trainable_weights}
    tables = {id(w) for w in model.encoder.get_layer("embeddings").trainable_weights}
    assert own & generator == tables and generator < {id(w) for w in model.trainable_weights}
    assert model.generator.get_layer("layer_1_feed_forward").narrow.units == 4
    assert model.generator(batch).shape == (2, 3, len(PIECES))
    sums = electra.sums
    inputs = {**batch, "original_ids": batch["token_ids"]}
    targets = np.take_along_axis(batch["token_ids"], batch["masked_positions"], axis=1)
    one, two = (sums(model, inputs, targets, WEIGHTS, training=False)[1] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    folder = electra.save(model, tmp_path / "model", tokenizer=tokenizer)
    row = tokens_of(batch)
    np.testing.assert_array_equal(
        load_encoder(folder)(row)["sequence"], model.encoder(row)["sequence"]
    )


def test_gradients_reach_generator_and_discriminator_by_their_own_terms(batch):
    model = new_model(electra)
    inputs = {**batch, "original_ids": batch["token_ids"]}
    targets = np.take_along_axis(batch["token_ids"], batch["masked_positions"], axis=1)
    for term, reached in ((0, "generator"), (1, "replaced_head")):
        with tf.GradientTape() as tape:
            loss = electra.sums(model, inputs, targets, WEIGHTS, training=True)[term][0]
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        found = [
            variable.path
            for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
            if gradient is not None
        ]
        assert any(reached in path for path in found)
        assert not any(("replaced" if term == 0 else "generator") in path for path in found)


# --- SimCSE -------------------------------------------------------------------------------


def test_a_sentence_is_told_from_the_others(batch):
    model = new_model(simcse, temperature=0.1)
    rows = tokens_of(batch)
    (found,) = simcse.sums(model, rows, None, None, training=False)
    vectors = model.encoder(rows)["pooled"].numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    logits = vectors @ vectors.T / 0.1
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits([0, 1], logits)
    np.testing.assert_allclose(found, [tf.reduce_sum(losses), 2.0], rtol=1e-4)
    assert simcse.counts(rows, None, None)[0] == 2
    (dropped,) = simcse.sums(model, rows, None, None, training=True)
    assert abs(dropped[0] - found[0]) > 1e-3  # the two passes drop different values
    with pytest.raises(ValueError, match="temperature must be above 0"):
        simcse.build(build_encoder(CONFIG), temperature=0)
