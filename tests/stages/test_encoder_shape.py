"""The encoder that a config names, before anything is trained."""

import json
from types import SimpleNamespace

import pytest
import small_families

from tfmodel.config import ConfigError
from tfmodel.export import ExportSettings
from tfmodel.stages import check_encoder
from tfmodel.stages.context import Context

CONFIGS = {
    "distilbert": {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 4},
    "roberta": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
    "albert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
    "xlm-roberta": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
}
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]


def context(folder, *, family=None, task=None, export=None):
    """Of a config with this encoder: of pretraining, or of a task."""
    if family is not None:
        values = {"model_type": family, "vocab_size": 40, "intermediate_size": 24}
        (folder / "config.json").write_text(json.dumps({**values, **CONFIGS[family]}))
    settings = SimpleNamespace(encoder=str(folder))
    if task is not None:
        settings.task, settings.export = SimpleNamespace(name=task), export
    return Context(settings, None, [], restart=False, config="small.yaml")


def beginning(context):
    """What is refused before the first stage."""
    context.up_to_date = lambda stage: False
    check_encoder(context)


def test_pretraining_takes_bert_alone(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"expected an encoder of model_type bert for pretraining. Received: model_type "
        r"distilbert. Choose another encoder; in Python, tm\.load",
    ):
        context(tmp_path, family="distilbert").encoder_shape  # noqa: B018


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_a_task_takes_what_its_head_can_be_written_for(tmp_path, task):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    beginning(context(tmp_path, family="distilbert", task=task))
    found = context(tmp_path, family="distilbert", task=task).encoder_shape
    assert (found.family, found.layers) == ("distilbert", 2)


@pytest.mark.parametrize("family", ["albert", "xlm-roberta"])
@pytest.mark.parametrize("task", ["classify", "tag", "span", "embed"])
def test_every_task_takes_sentencepiece_too(tmp_path, family, task):
    small_families.tokenizer_of(family).save(tmp_path)
    export = ExportSettings(onnx=True)
    beginning(context(tmp_path, family=family, task=task, export=export))


def test_what_texts_cannot_be_split_by_is_refused_before_the_rows(tmp_path):
    values = {"model": {"type": "Unigram", "vocab": [["<unk>", "likely"]]}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"tokenizer\.json: expected a list of pieces, each with"):
        beginning(context(tmp_path, family="distilbert", task="classify"))


def test_keras_hubs_preset_has_no_sentencepiece(tmp_path):
    small_families.tokenizer_of("xlm-roberta").save(tmp_path)
    export = ExportSettings(keras_hub=True)
    found = context(tmp_path, family="xlm-roberta", task="classify", export=export)
    path = tmp_path / "config.json"  # a multilingual BERT with the other's tokenizer
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "bert"}))
    message = r"export\.keras_hub: .* and WordPiece, .* Received: model_type bert with unigram\."
    with pytest.raises(ConfigError, match=message):
        beginning(found)


def test_an_export_that_is_of_bert_alone_is_refused_before_the_rows(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    export = ExportSettings(keras_hub=True)
    message = (
        r"export\.keras_hub: expected an encoder of model_type bert, .* Received: model_type "
        r"distilbert\. Leave it out: export\.keras_hub=false"
    )
    with pytest.raises(ConfigError, match=message):
        beginning(context(tmp_path, family="distilbert", task="classify", export=export))


@pytest.mark.parametrize("runtime", ["mediapipe", "task-library-0.4"])
def test_a_phone_that_cannot_split_its_texts_is_refused_before_the_rows(tmp_path, runtime):
    small_families.tokenizer_of("roberta").save(tmp_path)
    export = ExportSettings(runtime=runtime)
    with pytest.raises(ConfigError, match=rf"export\.runtime={runtime}: expected a WordPiece"):
        beginning(context(tmp_path, family="roberta", task="classify", export=export))
    export = ExportSettings(runtime=runtime, tflite=[])
    beginning(context(tmp_path, family="roberta", task="classify", export=export))


def test_googles_folder_is_a_bert(tmp_path):
    values = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2}
    values |= {"num_attention_heads": 4, "intermediate_size": 24}
    (tmp_path / "bert_config.json").write_text(json.dumps(values))
    assert context(tmp_path).encoder_shape.layers == 2
