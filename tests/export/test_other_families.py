"""Classifiers on encoders of BERT's family: what exports them, and what refuses them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.export.savedmodel.unpadded import answer_function, flatten, is_unpaddable
from tfmodel.export.tflite.phone_graph import phone_module
from tfmodel.export.weights import read_classifier
from tfmodel.model.encoder import build_encoder, encoder_config
from tfmodel.tasks import classify

SHAPES = {
    "distilbert": {"segments": 0},
    "electra": {"embedding_size": 6},
    "roberta": {"segments": 1},
    "albert": {"embedding_size": 6, "layer_groups": 1},
}


@pytest.fixture(params=SHAPES)
def model(request, tiny):
    shape = encoder_config(tiny.model.get_layer("encoder"))
    shape = dataclasses.replace(shape, family=request.param, **SHAPES[request.param])
    model = classify.build(build_encoder(shape, sequence=False), classes=3)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign_add(random.normal(size=weight.shape, scale=0.1).astype(np.float32))
    return model


def test_servers_compute_on_real_tokens_alone(tiny, model):
    assert is_unpaddable(model)
    texts = tf.constant(["", "good", "bad " * 30, *tiny.texts[:4]])
    answer = answer_function(model)(*flatten(tiny.tokenizer, texts, None, max_length=16))
    wanted = tf.nn.softmax(model(tiny.tokenizer(texts, max_length=16)))
    np.testing.assert_allclose(answer["scores"], wanted, atol=1e-5)


@pytest.mark.parametrize("small_tables", [False, True])
def test_a_phone_computes_layer_by_layer(tiny, model, small_tables):
    module = phone_module(model, max_length=16, small_tables=small_tables)
    batch = tiny.tokenizer(tiny.texts[:1], length=16)
    row = (batch["token_ids"], batch["padding_mask"], batch["segment_ids"])
    (scores,) = module.serve(*row).values()
    wanted = tf.nn.softmax(model(batch))
    np.testing.assert_allclose(scores, wanted, atol=0.02 if small_tables else 1e-5)


def test_a_door_that_writes_the_graph_anew_refuses_them(model):
    family = encoder_config(model.get_layer("encoder")).family
    message = f"KerasHub: expected an encoder of model_type bert. Received: {family}, whose graph"
    with pytest.raises(ConfigError, match=message):
        read_classifier(model, door="KerasHub")
