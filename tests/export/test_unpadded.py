"""Servers compute on real tokens alone: the answers are those of the padded Keras model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmodel.export import export_savedmodel
from tfmodel.export.savedmodel.unpadded import answer_function, flatten, is_unpaddable
from tfmodel.model.encoder import build_encoder, encoder_config
from tfmodel.tasks import classify


@keras.saving.register_keras_serializable("test_unpadded")
class Doubled(keras.layers.Dense):
    """A projection that is no plain Dense."""

    def call(self, inputs):
        """Twice what a Dense gives."""
        return 2 * super().call(inputs)


@pytest.mark.parametrize("sequence", [False, True])
def test_lengths_from_one_token_to_the_longest_in_one_batch(tiny, sequence):
    encoder = build_encoder(encoder_config(tiny.model.get_layer("encoder")), sequence=sequence)
    encoder.set_weights(tiny.model.get_layer("encoder").get_weights())
    model = classify.build(encoder, classes=3)
    model.get_layer("head").set_weights(tiny.model.get_layer("head").get_weights())
    texts = ["", "good", "bad " * 30, "the movie was very good", "好坏"]
    answer = answer_function(model)(
        *flatten(tiny.tokenizer, tf.constant(texts), None, max_length=16)
    )
    wanted = tiny.reference.probabilities(texts)
    np.testing.assert_allclose(answer["scores"], wanted, atol=1e-5)
    assert wanted.std(axis=0).min() > 0.05


def test_a_row_does_not_see_its_neighbours(tiny):
    def ask(texts):
        tokens = flatten(tiny.tokenizer, tf.constant(texts), None, max_length=16)
        return answer_function(tiny.model)(*tokens)["scores"].numpy()

    alone = np.concatenate([ask([text]) for text in tiny.texts[:8]])
    np.testing.assert_allclose(ask(tiny.texts[:8]), alone, atol=1e-6)


def test_pairs_have_their_segments(tiny_pairs):
    tokens = flatten(
        tiny_pairs.tokenizer,
        tf.constant(tiny_pairs.texts),
        tf.constant(tiny_pairs.text_pairs),
        max_length=16,
    )
    answer = answer_function(tiny_pairs.model)(*tokens)
    np.testing.assert_allclose(answer["scores"], tiny_pairs.scores, atol=1e-5)


def test_other_projections_stay(tiny, tmp_path):
    config = encoder_config(tiny.model.get_layer("encoder"))
    model = classify.build(build_encoder(config, sequence=False, projection=Doubled), classes=3)
    assert is_unpaddable(model)
    wanted = tf.nn.softmax(model(tiny.tokenizer(tiny.texts)))
    tokens = flatten(tiny.tokenizer, tf.constant(tiny.texts), None, max_length=16)
    np.testing.assert_allclose(answer_function(model)(*tokens)["scores"], wanted, atol=1e-5)
    folder = export_savedmodel(
        model, tiny.tokenizer, tmp_path, precision="mixed_bfloat16", **tiny.described
    )
    half = tf.saved_model.load(str(folder)).signatures["serving_default"](tf.constant(tiny.texts))
    np.testing.assert_allclose(half["scores"], wanted, atol=0.02)


def test_a_model_with_something_more_in_it_is_padded_as_in_training(tiny):
    logits = keras.layers.Dense(3, name="more")(tiny.model.output)
    model = keras.Model(tiny.model.input, logits)
    assert not is_unpaddable(model)
    answer = answer_function(model)(
        *flatten(tiny.tokenizer, tf.constant(tiny.texts), None, max_length=16)
    )
    wanted = tf.nn.softmax(model(tiny.tokenizer(tiny.texts)))
    np.testing.assert_allclose(answer["scores"], wanted, atol=1e-5)
    assert set(answer) == {"scores"}
