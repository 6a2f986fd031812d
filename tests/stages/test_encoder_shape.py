"""The encoder that a config names, before anything is trained."""

import json
from types import SimpleNamespace

import pytest

from tfmodel.config import ConfigError
from tfmodel.stages.context import Context


def context(folder):
    settings = SimpleNamespace(encoder=str(folder))
    return Context(settings, None, [], restart=False, config="small.yaml")


def test_another_family_is_refused_with_the_way_out(tmp_path):
    values = {"model_type": "distilbert", "vocab_size": 40, "dim": 16, "hidden_dim": 24}
    values |= {"n_layers": 2, "n_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(
        ConfigError,
        match=r"expected an encoder of model_type bert.* Received: model_type distilbert. tm\.load",
    ):
        context(tmp_path).encoder_shape  # noqa: B018


def test_googles_folder_is_a_bert(tmp_path):
    values = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2}
    values |= {"num_attention_heads": 4, "intermediate_size": 24}
    (tmp_path / "bert_config.json").write_text(json.dumps(values))
    assert context(tmp_path).encoder_shape.layers == 2
