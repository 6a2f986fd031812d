"""What sentence-transformers folders ask for, and what of it cannot be had."""

import json

import pytest

from tfmodel.config import ConfigError
from tfmodel.model import read_sentence_settings

SWITCHES = {
    "word_embedding_dimension": 16,
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": True,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
}
OLD, NEW = "sentence_transformers.models", "sentence_transformers.sentence_transformer.modules"


def write(folder, *, kinds=("Transformer", "Pooling", "Normalize"), paths=None, pooling=SWITCHES):
    paths = paths or ["", "1_Pooling", "2_Normalize", "3_Dense"][: len(kinds)]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"{OLD}.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    return folder


def test_mean_and_normalize(tmp_path):
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    found = read_sentence_settings(write(tmp_path))
    assert (found.pooling, found.normalize, found.max_length) == ("mean", True, 256)
    assert (found.encoder_folder, found.prompt) == (tmp_path, "")


def test_the_first_token_without_normalize_in_a_folder_of_its_own(tmp_path):
    write(
        tmp_path,
        kinds=["Transformer", "Pooling"],
        paths=["0_Transformer", "1_Pooling"],
        pooling={**SWITCHES, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
    )
    found = read_sentence_settings(tmp_path)
    assert (found.pooling, found.normalize, found.max_length) == ("cls", False, None)
    assert found.encoder_folder == tmp_path / "0_Transformer"


def test_newer_names(tmp_path):
    write(tmp_path, pooling={"embedding_dimension": 16, "pooling_mode": "cls"})
    text = (tmp_path / "modules.json").read_text()
    (tmp_path / "modules.json").write_text(text.replace(f"{OLD}.", f"{NEW}.module."))
    assert read_sentence_settings(tmp_path).pooling == "cls"


def test_a_prompt_that_all_texts_have(tmp_path):
    path = write(tmp_path) / "config_sentence_transformers.json"
    path.write_text(json.dumps({"prompts": {"query": "query: "}, "default_prompt_name": None}))
    assert read_sentence_settings(tmp_path).prompt == ""
    path.write_text(json.dumps({"prompts": {"query": "query: "}, "default_prompt_name": "query"}))
    assert read_sentence_settings(tmp_path).prompt == "query: "
    path.write_text(json.dumps({"prompts": {}, "default_prompt_name": "query"}))
    with pytest.raises(ConfigError, match="expected a prompt named 'query'"):
        read_sentence_settings(tmp_path)


def test_another_folder_asks_for_nothing(tmp_path):
    assert read_sentence_settings(tmp_path) is None


@pytest.mark.parametrize(
    "kinds",
    [
        ("Transformer", "Pooling", "Dense"),
        ("Transformer", "Pooling", "Normalize", "Dense"),
        ("StaticEmbedding",),
        ("Transformer",),
        (),
    ],
)
def test_modules_that_cannot_be_had(tmp_path, kinds):
    named = ", ".join(kinds) or "nothing"
    with pytest.raises(
        ConfigError, match=rf"modules\.json: expected Transformer, .* Received: {named}\. Other"
    ):
        read_sentence_settings(write(tmp_path, kinds=kinds))


def test_code_of_the_models_own(tmp_path):
    write(tmp_path)
    text = (tmp_path / "modules.json").read_text()
    (tmp_path / "modules.json").write_text(text.replace(f"{OLD}.Transformer", "custom_st.Own"))
    with pytest.raises(ConfigError, match=r"Received: custom_st\.Own, code that comes with"):
        read_sentence_settings(tmp_path)


@pytest.mark.parametrize("path", ["../other", "/etc", "a/b", "..", "a\\b"])
def test_paths_outside_the_folder(tmp_path, path):
    write(tmp_path, paths=["", path, "2_Normalize"])
    with pytest.raises(ConfigError, match="expected paths of folders in this folder. Received:"):
        read_sentence_settings(tmp_path)


@pytest.mark.parametrize(
    ("pooling", "received"),
    [
        ({**SWITCHES, "pooling_mode_max_tokens": True}, "mean and max"),
        ({**SWITCHES, "pooling_mode_mean_tokens": False}, "none"),
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
        ({"pooling_mode": ["mean", "cls"]}, "mean and cls"),
    ],
)
def test_other_ways_to_pool(tmp_path, pooling, received):
    with pytest.raises(
        ConfigError, match=rf"expected pooling by one of mean, cls. Received: {received}\."
    ):
        read_sentence_settings(write(tmp_path, pooling=pooling))


def test_lower_casing_before_a_cased_tokenizer(tmp_path):
    write(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    assert read_sentence_settings(tmp_path).max_length is None
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(ConfigError, match="do_lower_case of sentence-transformers before a cased"):
        read_sentence_settings(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("modules.json", "{", "expected JSON"),
        ("modules.json", "{}", "expected a list. Received: dict"),
        ("modules.json", "[3]", "expected modules with a type and a path. Received: 3"),
        ("1_Pooling/config.json", "[]", "expected an object. Received: list"),
        ("sentence_bert_config.json", '{"max_seq_length": "a"}', "expected max_seq_length above 0"),
    ],
)
def test_damaged_files(tmp_path, file, text, message):
    (write(tmp_path) / file).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_sentence_settings(tmp_path)


def test_a_missing_file_of_a_module(tmp_path):
    (write(tmp_path) / "1_Pooling/config.json").unlink()
    with pytest.raises(ConfigError, match="Expected a file at .*1_Pooling/config.json"):
        read_sentence_settings(tmp_path)
