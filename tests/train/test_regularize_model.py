"""What changes a model before it is trained: rates, decays, dropout, new tops, mixout."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy

from tfmodel.model import BertConfig, build_encoder, encoder_config, load_encoder, save_encoder
from tfmodel.model.encoder import projections
from tfmodel.tasks import classify
from tfmodel.train import adamw
from tfmodel.train.regularize import (
    MixoutDense,
    layer_rates,
    mixout,
    reinitialize_top_layers,
    set_dropout,
    weight_decays,
)
from tfmodel.train.regularize.depth import layers_by_depth
from tfmodel.train.step import TrainingModel

SHAPE = BertConfig(
    vocabulary_size=len(toy.PIECES),
    hidden_size=16,
    layers=3,
    heads=2,
    intermediate_size=32,
    max_positions=12,
)
TEXTS = ["good film", "the plot was very long and bad", "a film and a plot and a good long film"]


def model_of_three(*, seed=1, **arguments):
    keras.utils.set_random_seed(seed)
    return classify.build(build_encoder(SHAPE, sequence=False, **arguments), classes=2)


def values(model) -> dict[str, np.ndarray]:
    return {w.path: keras.ops.convert_to_numpy(w).copy() for w in model.weights}


class PaperAdamW:
    """Loshchilov and Hutter 2019, algorithm 2, in float64; each weight with its own numbers."""

    def __init__(self, weight, *, rate, decay, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        self.weight = np.asarray(weight, np.float64)
        self.first, self.second, self.step = np.zeros_like(self.weight), 0.0, 0
        self.rate, self.decay, self.epsilon = rate, decay, epsilon
        self.betas = beta_1, beta_2

    def apply(self, gradient):
        self.step += 1
        (b1, b2), g = self.betas, np.asarray(gradient, np.float64)
        self.first = b1 * self.first + (1 - b1) * g
        self.second = b2 * self.second + (1 - b2) * g * g
        first, second = self.first / (1 - b1**self.step), self.second / (1 - b2**self.step)
        update = first / (np.sqrt(second) + self.epsilon) + self.decay * self.weight
        self.weight = self.weight - self.rate * update


# --- rates and decays by weight -----------------------------------------------------------------


def depth_by_hand(path):
    if path.startswith("embeddings"):
        return 0
    return 1 + int(path.split("_")[1]) if path.startswith("layer_") else 4


def decay_by_hand(path, decays):
    if "normalize" in path:
        return decays["norms"]
    if path.endswith("bias"):
        return decays["biases"]
    return decays[{0: "embeddings", 4: "head"}.get(depth_by_hand(path), "kernels")]


def test_adamw_with_rates_and_decays_by_weight_is_the_papers():
    model = model_of_three()
    decays = {"embeddings": 0.0, "kernels": 0.3, "head": 0.5, "norms": 0.1, "biases": 0.2}
    optimizer = adamw(
        0.01,
        global_clipnorm=None,
        rate_factors=layer_rates(model, 0.7),
        weight_decays=weight_decays(model, decays),
    )
    papers = {
        w.path: PaperAdamW(
            w, rate=0.01 * 0.7 ** (4 - depth_by_hand(w.path)), decay=decay_by_hand(w.path, decays)
        )
        for w in model.weights
    }
    random = np.random.default_rng(0)
    apply = tf.function(lambda gradients: optimizer.apply(gradients, model.trainable_variables))
    optimizer.build(model.trainable_variables)
    for _ in range(5):
        gradients = [random.normal(size=w.shape).astype(np.float32) for w in model.weights]
        apply([tf.constant(g) for g in gradients])
        for weight, gradient in zip(model.weights, gradients, strict=True):
            papers[weight.path].apply(gradient)
    for path, found in values(model).items():
        np.testing.assert_allclose(found, papers[path].weight, rtol=2e-5, atol=2e-6, err_msg=path)


def test_rows_of_a_large_table_have_its_rate_too():
    weights = [keras.Variable(np.ones((5_000, 3), np.float32))]
    optimizer = adamw(
        0.1,
        weight_decay=0.0,
        global_clipnorm=None,
        rate_factors={weights[0].path: 0.25},
        weight_decays={weights[0].path: 0.5},
    )
    optimizer.build(weights)
    row = tf.IndexedSlices(tf.constant([[1.0, -2.0, 3.0]]), tf.constant([7]), (5_000, 3))
    optimizer.apply([row], weights)
    paper = PaperAdamW(np.ones(3), rate=0.025, decay=0.5)
    paper.apply([1.0, -2.0, 3.0])
    np.testing.assert_allclose(weights[0].numpy()[7], paper.weight, rtol=1e-5)
    assert (weights[0].numpy()[[6, 8]] == 1).all()


def test_groups_that_are_not_named_keep_the_optimizers_decay():
    found = weight_decays(model_of_three(), {"head": 0.5})
    assert found == {"pooler/kernel": 0.5, "head/kernel": 0.5}


def test_moments_of_a_weight_that_joins_late_count_from_there():
    model = model_of_three()
    optimizer = adamw(0.01, weight_decay=0.0, global_clipnorm=None)
    optimizer.build(model.trainable_variables)
    early, late = model.get_layer("head").trainable_weights, [
        *model.get_layer("encoder").get_layer("pooler").trainable_weights
    ]  # fmt: skip
    papers = {w.path: PaperAdamW(w, rate=0.01, decay=0.0) for w in [*early, *late]}
    random = np.random.default_rng(0)
    for step in range(12):
        weights = early if step < 8 else [*early, *late]
        if step == 8:
            optimizer.join(weights)
            assert optimizer.joined_at == {w.path: 8 for w in late}
        gradients = [random.normal(size=w.shape).astype(np.float32) for w in weights]
        optimizer.apply([tf.constant(g) for g in gradients], weights)
        for weight, gradient in zip(weights, gradients, strict=True):
            papers[weight.path].apply(gradient)
    for path, paper in papers.items():
        np.testing.assert_allclose(values(model)[path], paper.weight, rtol=2e-5, atol=2e-6)


def test_an_optimizer_with_rates_can_be_kept_in_a_file():
    optimizer = adamw(0.1, rate_factors={"a": 0.5}, weight_decays={"b": 0.0})
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert (again.rate_factors, again.weight_decays) == ({"a": 0.5}, {"b": 0.0})


@pytest.mark.parametrize("decay", [0.0, 1.5])
def test_a_layer_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay must be in \(0, 1\]"):
        layer_rates(model_of_three(), decay)


@pytest.mark.parametrize("decays", [{"bias": 0.1}, {"head": 1.0}])
def test_decays_of_no_group_are_refused(decays):
    with pytest.raises(ValueError, match="embeddings, kernels, head, norms, biases"):
        weight_decays(model_of_three(), decays)


def test_every_weight_has_its_depth():
    model = model_of_three()
    groups = layers_by_depth(TrainingModel(model))
    names = [{weight.path.split("/")[0] for layer in g for weight in layer.weights} for g in groups]
    assert names[0] == {"embeddings"} and names[4] == {"pooler", "head"}
    for index in range(3):
        assert {name.split("_")[1] for name in names[1 + index]} == {str(index)}
    found = [w for group in groups for layer in group for w in layer.weights]
    assert len(found) == len(model.weights)
    assert len(layers_by_depth(model.get_layer("encoder"))) == 5


# --- dropout --------------------------------------------------------------------------------------


def test_each_kind_of_dropout_is_set_where_it_acts():
    model = model_of_three()
    encoder = model.get_layer("encoder")
    before = encoder_config(encoder)
    set_dropout(model, hidden=0.3, attention=0.0, embeddings=0.25, words=0.5, head=0.125)
    for index in range(3):
        assert encoder.get_layer(f"layer_{index}_attention").drop.rate == 0.0
        for norm in ("attention_norm", "feed_forward_norm"):
            assert encoder.get_layer(f"layer_{index}_{norm}").drop.rate == 0.3
    assert encoder.get_layer("embeddings").drop.rate == 0.25
    assert model.get_layer("pooled_dropout").rate == 0.125
    after = encoder_config(encoder)
    assert (after.dropout, after.attention_dropout) == (0.3, 0.0)
    assert before.dropout == 0.1
    set_dropout(model)  # nothing named: nothing changes
    assert encoder_config(encoder) == after


def test_a_layer_without_dropout_gets_some():
    keras.utils.set_random_seed(0)
    plain = BertConfig(**{**SHAPE.__dict__, "dropout": 0.0, "attention_dropout": 0.0})
    model = classify.build(build_encoder(plain, sequence=False), classes=2)
    batch = toy.tokenizer()(TEXTS)

    def outputs():
        return keras.ops.convert_to_numpy(model(batch, training=True))

    assert (outputs() == outputs()).all()
    for kind in ("hidden", "attention", "embeddings", "words", "head"):
        set_dropout(model, **{kind: 0.5})
        assert (outputs() != outputs()).any(), kind
        set_dropout(model, **{kind: 0.0})
        assert (outputs() == outputs()).all(), kind


def test_word_dropout_drops_whole_tokens_but_the_first():
    keras.utils.set_random_seed(0)
    encoder = build_encoder(SHAPE)
    table = encoder.get_layer("embeddings")
    set_dropout(encoder, embeddings=0.0, words=0.5)
    batch = {
        "token_ids": np.tile(np.arange(5, 17)[None] % 15, (400, 1)).astype(np.int32),
        "segment_ids": np.zeros((400, 12), np.int32),
        "padding_mask": np.ones((400, 12), np.int32),
    }
    batch["padding_mask"][:, 6:] = 2  # a second text: its first token is spared, too
    same_text = batch["padding_mask"][:, :, None] == batch["padding_mask"][:, None]

    def before_norm(training):
        taken = []
        call = table.normalize.call
        table.normalize.call = lambda hidden, **more: taken.append(hidden) or call(hidden, **more)
        table(batch["token_ids"], batch["segment_ids"], same_text, training=training)
        table.normalize.call = call
        return keras.ops.convert_to_numpy(taken[0]).reshape(400, 12, 16)

    whole, dropped = before_norm(False), before_norm(True)
    words = keras.ops.convert_to_numpy(table.token_table)[batch["token_ids"]]
    without = whole - words
    gone = np.isclose(dropped, without, atol=1e-6).all(-1)
    doubled = np.isclose(dropped, without + 2 * words, atol=1e-6).all(-1)
    same = np.isclose(dropped, whole, atol=1e-6).all(-1)
    assert same[:, [0, 6]].all()
    inner = np.delete(np.arange(12), [0, 6])
    assert (gone | doubled)[:, inner].all()
    assert gone[:, inner].mean() == pytest.approx(0.5, abs=3 * np.sqrt(0.25 / 4000))


def test_a_dropout_rate_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\)"):
        set_dropout(model_of_three(), hidden=1.0)
    with pytest.raises(ValueError, match="a head's dropout"):
        set_dropout(build_encoder(SHAPE), head=0.1)


# --- new tops -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_top_is_new_and_what_is_below_keeps_every_bit(count):
    model = model_of_three()
    random = np.random.default_rng(0)
    for weight in model.weights:  # no weight at its initial value
        weight.assign(weight + random.normal(size=weight.shape).astype(np.float32))
    before = values(model)
    reinitialize_top_layers(model, count, seed=5)
    after = values(model)
    for path, value in after.items():
        new = 4 > depth_by_hand(path) > 3 - count or path.startswith("pooler")
        assert (value == before[path]).all() != new, path
        if new and path.endswith("kernel"):
            assert 0.015 < value.std() < 0.02 and abs(value.mean()) < 0.004
            assert abs(value).max() <= 0.041
        elif new:
            assert (value == (1.0 if path.endswith("gamma") else 0.0)).all()
    kernels = [after[f"layer_{i}_attention/output/kernel"] for i in range(3 - count, 3)]
    assert all((a != b).any() for a, b in zip(kernels, kernels[1:], strict=False))
    reinitialize_top_layers(model, count, seed=5)
    assert all((value == after[path]).all() for path, value in values(model).items())
    reinitialize_top_layers(model, count, seed=6)
    assert (values(model)["pooler/kernel"] != after["pooler/kernel"]).any()


def test_more_new_layers_than_there_are_is_refused():
    with pytest.raises(ValueError, match="must be at most 3, the encoder's layers. Received: 4"):
        reinitialize_top_layers(model_of_three(), 4)


# --- mixout ---------------------------------------------------------------------------------------


def mixed(rate=0.4, inputs=6, units=5, **arguments):
    layer = MixoutDense(units, rate=rate, seed=3, **arguments)
    layer.build((None, inputs))
    random = np.random.default_rng(0)
    pretrained, kernel = random.normal(size=(2, inputs, units)).astype(np.float32)
    layer.kernel.assign(pretrained)
    layer.remember_pretrained()
    layer.kernel.assign(kernel)
    layer.bias.assign(random.normal(size=units))
    return layer, pretrained.astype(np.float64), kernel.astype(np.float64)


def test_mixout_and_its_gradient_are_the_formula():
    layer, pretrained, kernel = mixed()
    upstream = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    fallen, draws = 0, 500
    total = np.zeros((6, 5))
    for _ in range(draws):
        with tf.GradientTape() as tape:
            # Rows of the identity read the kernel of the step, neuron by neuron.
            now = layer(tf.eye(6), training=True)
            loss = tf.reduce_sum(now * upstream)
        by_kernel, by_bias = tape.gradient(loss, [layer.kernel.value, layer.bias.value])
        found = now.numpy() - layer.bias.numpy()
        mask = ~np.isclose(found, pretrained, atol=1e-5).all(axis=1, keepdims=True)
        expected = ((~mask) * pretrained + mask * kernel - 0.4 * pretrained) / (1 - 0.4)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(by_kernel, mask / (1 - 0.4) * upstream, atol=1e-5)
        np.testing.assert_allclose(by_bias, upstream.sum(axis=0), atol=1e-5)
        fallen += (~mask).sum()
        total += found
    assert fallen / (6 * draws) == pytest.approx(0.4, abs=3 * np.sqrt(0.24 / (6 * draws)))
    spread = abs(kernel - pretrained) * np.sqrt(0.4 / 0.6 / draws)
    assert (abs(total / draws - kernel) < 4.5 * spread).all()


def test_without_training_it_is_a_dense_layer():
    layer, _, kernel = mixed()
    dense = keras.layers.Dense(5)
    dense.build((None, 6))
    dense.kernel.assign(kernel)
    dense.bias.assign(layer.bias)
    rows = tf.constant(np.random.default_rng(2).normal(size=(7, 6)), tf.float32)
    np.testing.assert_array_equal(layer(rows), dense(rows))
    np.testing.assert_array_equal(layer(rows, training=False), dense(rows))
    assert (layer(rows, training=True).numpy() != dense(rows).numpy()).any()


def test_in_bfloat16_the_small_way_from_the_pretrained_weights_counts():
    layer, pretrained, _ = mixed(rate=0.9, dtype="mixed_bfloat16")
    layer.kernel.assign(pretrained + 0.001)  # less than bfloat16 tells apart at 1
    for _ in range(20):
        found = layer(tf.eye(6), training=True).numpy().astype(np.float64) - layer.bias.numpy()
        kept = np.where(abs(found - pretrained - 0.01) < abs(found - pretrained), 0.01, 0.0)
        np.testing.assert_allclose(found, pretrained + kept, rtol=2**-7, atol=2**-7)


def test_a_loaded_encoder_falls_back_to_what_was_loaded(tmp_path):
    plain = build_encoder(SHAPE, sequence=False)
    save_encoder(plain, tmp_path / "plain")
    encoder = load_encoder(tmp_path / "plain", sequence=False, projection=mixout(0.5))
    layers = projections(encoder)
    assert len(layers) == 12 and all(isinstance(layer, MixoutDense) for layer in layers)
    for layer, dense in zip(layers, projections(plain), strict=True):
        np.testing.assert_array_equal(layer.pretrained, dense.kernel)
        np.testing.assert_array_equal(layer.kernel, dense.kernel)
    # At the pretrained weights mixing changes nothing; dropout apart.
    set_dropout(encoder, hidden=0.0, attention=0.0, embeddings=0.0)
    batch = toy.tokenizer()(TEXTS)
    np.testing.assert_allclose(
        encoder(batch, training=True)["pooled"], plain(batch)["pooled"], atol=1e-6
    )
    reinitialize_top_layers(encoder, 1)
    for layer in layers:  # a new layer falls back to its new weights
        np.testing.assert_array_equal(layer.pretrained, layer.kernel)


def test_it_is_saved_as_an_ordinary_model(tmp_path):
    model = model_of_three(projection=mixout(0.5))
    for layer in projections(model.get_layer("encoder")):
        layer.kernel.assign(layer.kernel + 0.01)
    tokenizer = toy.tokenizer()
    classify.save(model, tmp_path / "model", tokenizer=tokenizer, labels=toy.LABELS)
    loaded = classify.load(tmp_path / "model").model
    for layer in projections(loaded.get_layer("encoder")):
        assert type(layer) is keras.layers.Dense
    np.testing.assert_array_equal(loaded(tokenizer(TEXTS)), model(tokenizer(TEXTS)))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(tokenizer(TEXTS)), model(tokenizer(TEXTS)))


def test_mixout_trains():
    keras.utils.set_random_seed(1)
    shape = dataclasses.replace(SHAPE, layers=1)
    encoder = build_encoder(shape, sequence=False, projection=mixout(0.5))
    model = classify.build(encoder, classes=2)
    before = values(model)
    model.compile(adamw(0.01), loss=classify.loss(), jit_compile=False)
    batch = toy.tokenizer()(TEXTS)
    history = model.fit(batch, np.array([1, 0, 1]), epochs=30, verbose=0, shuffle=False)
    assert history.history["loss"][-1] < 0.3 < history.history["loss"][0]
    for path, value in values(model).items():
        if path.endswith(("pretrained", "kernel")):
            assert (value == before[path]).all() == path.endswith("pretrained")


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_mixout_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\)"):
        mixout(rate)(4)
