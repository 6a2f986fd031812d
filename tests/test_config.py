"""What a user reads when a config is wrong, and that a right one is read as it was meant.

Run: pytest tests/test_config.py
"""

from pathlib import Path
from typing import Annotated, Literal

import pydantic
import pytest
import yaml
from pydantic import Field

from tfmodel.config import ConfigError, Settings, load_config, to_yaml
from tfmodel.schema import json_schema


class Train(Settings):
    """How the weights are trained."""

    epochs: int = Field(3, gt=0, le=100, description="Passes over the training part.")
    learning_rate: float = Field(2e-5, gt=0, examples=[1e-4])
    batch_size: int | None = Field(32, ge=1)
    jit: bool | Literal["auto"] = "auto"
    class_weights: dict[str, float] | None = None


class Data(Settings):
    train: str = Field(description="The file of labelled texts.")
    label: str = "label"
    format: Literal["auto", "csv", "tsv"] = "auto"
    delimiter: str | None = None
    columns: list[str] | None = None

    @pydantic.field_validator("delimiter")
    @classmethod
    def _one_character(cls, value):
        if value is not None and len(value) != 1:
            raise ValueError("expected one character")
        return value


class Classify(Settings):
    name: Literal["classify"] = "classify"
    dropout: float = 0.1


class Tag(Settings):
    name: Literal["tag"]


class Recipe(Settings):
    seed: int = 7
    run: Path = Path("run")
    data: Data
    train: Train = Train()
    tflite: tuple[Literal["float32", "int8"], ...] = ("float32",)
    task: Annotated[Classify | Tag, Field(discriminator="name")] = Classify()

    @pydantic.model_validator(mode="after")
    def _not_unlucky(self):
        if self.seed == 13:
            raise ConfigError("seed: expected luck. Received: 13. Take 7.")
        if self.seed == 0:
            raise ValueError("expected some seed")
        return self


DATA = "data: {train: a.csv}\n"


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load_text(text, *overrides):
        content = text if isinstance(text, bytes) else text.encode()
        Path("recipe.yaml").write_bytes(content)
        return load_config("recipe.yaml", Recipe, overrides=overrides)

    return load_text


def test_a_config_is_read_with_its_defaults(load):
    recipe = load(DATA + "train: {epochs: 7}\n")
    assert recipe.data.train == "a.csv"
    assert recipe.train.epochs == 7
    assert recipe.train.learning_rate == 2e-5


def test_a_mapping_is_a_config_and_stays_untouched():
    values = {"data": {"train": "a.csv"}}
    assert load_config(values, Recipe, overrides=["train.epochs=9"]).train.epochs == 9
    assert values == {"data": {"train": "a.csv"}}


def test_settings_cannot_be_changed_afterwards(load):
    with pytest.raises(pydantic.ValidationError):
        load(DATA).train.epochs = 4


def test_numbers_and_words_mean_what_they_look_like(load):
    recipe = load(
        "data: {train: 007, label: 1.10, columns: [1, yes, 2024-01-01, null-ish, 12:30]}\n"
        "train: {learning_rate: 1e-4, jit: off, class_weights: {1: 2, no: 1e-3}}\n"
        "run: 2024\n"
    )
    assert recipe.train.learning_rate == 1e-4
    assert recipe.train.jit is False
    assert recipe.train.class_weights == {"1": 2.0, "no": 1e-3}
    assert recipe.data.train == "007"
    assert recipe.data.label == "1.10"
    assert recipe.data.columns == ["1", "yes", "2024-01-01", "null-ish", "12:30"]
    assert recipe.run == Path("2024")


@pytest.mark.parametrize("word", ["on", "off", "yes", "no", "true", "y", "1e5", "0x1F", "1_000"])
def test_text_stays_the_text_that_was_written(load, word):
    assert load(f"data: {{train: {word}}}\n").data.train == word
    assert load(DATA, f"data.train={word}").data.train == word


def test_an_empty_section_means_its_defaults(load):
    assert load(DATA + "train:\n  # epochs: 5\n").train == Train()


def test_a_byte_order_mark_anchors_and_merges_are_read(load):
    text = "\ufeffdata: &shared {train: a.csv, label: x}\n"
    assert load(text).data.label == "x"
    merged = load("data: {<<: {train: a.csv, label: x}, label: y}\n").data
    assert (merged.train, merged.label) == ("a.csv", "y")


def test_overrides_are_dotted_yaml_and_the_last_one_wins(load):
    recipe = load(
        DATA,
        "train.epochs=3",
        "train.epochs=5",
        "tflite=[int8]",
        'data.columns=["1", 2]',
        "train.batch_size=null",
        "data.train=${TFMODEL_DATA}/a=b.csv",
    )
    assert recipe.train.epochs == 5
    assert recipe.tflite == ("int8",)
    assert recipe.data.columns == ["1", "2"]
    assert recipe.train.batch_size is None
    assert recipe.data.train == "${TFMODEL_DATA}/a=b.csv"


@pytest.mark.parametrize("character", [",", "|", ";", "\t", "#", "*", ":", "'|'", '"\\t"'])
def test_a_delimiter_needs_no_second_quoting_in_the_shell(load, character):
    expected = {"'|'": "|", '"\\t"': "\t"}.get(character, character)
    assert load(DATA, f"data.delimiter={character}").data.delimiter == expected


WRONG = {
    "unknown key": (
        DATA + "train: {learning_rat: 1}",
        "recipe.yaml: unknown key train.learning_rat. Did you mean train.learning_rate?",
    ),
    "known on another level": (
        DATA + "epochs: 3",
        "recipe.yaml: unknown key epochs. Did you mean train.epochs?",
    ),
    "misspelt section": (
        DATA + "trian: {epochs: 3}",
        "recipe.yaml: unknown key trian. Did you mean train?",
    ),
    "nothing near": (
        DATA + "peft: {name: lora}",
        "recipe.yaml: unknown key peft. Known here: seed, run, data, train, tflite, task. "
        "Remove it or use one of these.",
    ),
    "dotted key": (
        DATA + "train.epochs: 3",
        "recipe.yaml: unknown key train.epochs. Received: a key with dots in it. "
        "Write it nested: train: {epochs: ...}",
    ),
    "unknown key of one task": (
        DATA + "task: {name: classify, dropuot: 0.1}",
        "recipe.yaml: unknown key task.dropuot. Did you mean task.dropout?",
    ),
    "out of range": (
        DATA + "train: {epochs: 0}",
        "recipe.yaml: train.epochs: expected a value greater than 0 and at most 100. "
        "Received: 0. Change it, or leave it out for the default, 3.",
    ),
    "wrong type": (
        DATA + "train: {learning_rate: fast}",
        "recipe.yaml: train.learning_rate: expected a number. "
        'Received: "fast". Change it, or leave it out for the default, 2e-05.',
    ),
    "a boolean is no number": (
        DATA + "train: {epochs: true}",
        "recipe.yaml: train.epochs: expected a whole number. "
        "Received: true. Change it, or leave it out for the default, 3.",
    ),
    "not a number": (
        DATA + "train: {learning_rate: .nan}",
        "recipe.yaml: train.learning_rate: expected a finite number. "
        "Received: NaN. Change it, or leave it out for the default, 2e-05.",
    ),
    "union": (
        DATA + "train: {jit: sometimes}",
        "recipe.yaml: train.jit: expected true or false or auto. "
        'Received: "sometimes". Change it, or leave it out for the default, "auto".',
    ),
    "unknown choice": (
        "data: {train: a.csv, format: cvs}",
        "recipe.yaml: data.format: expected one of auto, csv, tsv. "
        'Received: "cvs". Did you mean csv?',
    ),
    "unknown choice in a list": (
        DATA + "tflite: [float32, int4]",
        "recipe.yaml: tflite.1: expected one of float32, int8. "
        'Received: "int4". Did you mean int8?',
    ),
    "unknown task": (
        DATA + "task: {name: clasify}",
        "recipe.yaml: task.name: expected one of classify, tag. "
        'Received: "clasify". Did you mean classify?',
    ),
    "no task name": (
        DATA + "task: {dropout: 0.1}",
        "recipe.yaml: missing key task.name. "
        "Received: nothing. Add task.name to the config, or give task.name=VALUE.",
    ),
    "no list": (
        DATA + "tflite: int8",
        'recipe.yaml: tflite: expected a list such as [a, b]. Received: "int8". Write [int8].',
    ),
    "no mapping in a section": (
        DATA + "train: [1]",
        "recipe.yaml: train: expected a mapping with keys such as epochs, learning_rate, "
        "batch_size, jit, class_weights. Received: [1]. Change it, or leave it out.",
    ),
    "missing key": (
        "data: {label: x}",
        "recipe.yaml: missing key data.train (The file of labelled texts). "
        "Received: nothing. Add data.train to the config, or give data.train=VALUE.",
    ),
    "missing section": (
        "run: x",
        "recipe.yaml: missing key data. "
        "Received: nothing. Add data.train to the config, or give data.train=VALUE.",
    ),
    "a validator's own words": (
        "data: {train: a.csv, delimiter: ab}",
        'recipe.yaml: data.delimiter: expected one character. Received: "ab". Change it.',
    ),
    "a validator over several keys": (
        DATA + "seed: 13",
        "recipe.yaml: seed: expected luck. Received: 13. Take 7.",
    ),
    "a validator that says less": (
        DATA + "seed: 0",
        "recipe.yaml: expected some seed. Received: a mapping with the keys data, seed. Change it.",
    ),
    "empty file": (
        "# nothing but a comment\n",
        "recipe.yaml: expected keys such as seed, run, data, train, tflite, task. Received: an "
        "empty file. Write a config, or let `tfmodel init FILE` write one for your data.",
    ),
    "not a mapping": (
        "- run\n- data\n",
        "recipe.yaml: expected a mapping with keys such as seed, run, data, train, tflite, task. "
        'Received: ["run", "data"]. Write one `key: value` a line.',
    ),
    "key twice": (
        "data:\n  train: a\n  label: b\n  train: c\n",
        "recipe.yaml:4: expected each key once. Received: data.train a second time, first on "
        "line 2. Keep one of the two.",
    ),
    "tab": (
        "data:\n\ttrain: a\n",
        "recipe.yaml:2: expected YAML; while scanning for the next token found character '\\t' "
        "that cannot start any token. Received: train: a. Indent with spaces instead of tabs.",
    ),
    "colon in text": (
        "run: x\ndata: train: a.csv\n",
        "recipe.yaml:2: expected YAML; mapping values are not allowed here. Received: data: "
        "train: a.csv. Put text that holds ': ' in quotes, or check the indentation.",
    ),
    "open bracket": (
        "run: x\ndata: [1, 2\ntrain: y\n",
        "recipe.yaml:3: expected YAML; while parsing a flow sequence expected ',' or ']', but "
        "got ':'. Received: train: y. Check the indentation, quotes and brackets on this line "
        "and the one before.",
    ),
    "python tag": (
        "run: !!python/object/apply:os.system [ls]\n",
        "recipe.yaml:1: expected YAML; could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.system'. Received: run: "
        "!!python/object/apply:os.system [ls]. Write plain values; tags such as !!python are "
        "not read.",
    ),
    "control character": (
        "run: x\ndata: \x07\n",
        "recipe.yaml:2: expected text without control characters. Received: the character "
        'U+0007. Remove it, or write it as an escape in double quotes ("\\t").',
    ),
    "latin-1": (
        b"run: x\ndata: caf\xe9\n",
        "recipe.yaml:2: expected UTF-8 text. Received: the byte 0xe9 at position 16; the file "
        "is likely Latin-1 or Windows-1252. Save it as UTF-8.",
    ),
    "utf-16": (
        "run: x\n".encode("utf-16"),
        "recipe.yaml:1: expected UTF-8 text. Received: the byte 0xff at position 0; the file "
        "is likely UTF-16. Save it as UTF-8.",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_named_with_its_fix(load, mistake):
    text, message = WRONG[mistake]
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert str(caught.value) == message


WRONG_OVERRIDES = {
    "train.epochs": "override train.epochs: expected KEY=VALUE. Received: 'train.epochs'. "
    "Write for example train.epochs=3.",
    "=3": "override =3: expected KEY=VALUE. Received: '=3'. Write for example train.epochs=3.",
    "data.train.x=1": "override data.train.x=1: expected data.train to be a mapping of keys. "
    'Received: "a.csv". Set the whole of it: data.train=VALUE.',
    "train.epoch=3": "override train.epoch=3: unknown key train.epoch. Did you mean train.epochs?",
    "trian.epochs=3": "override trian.epochs=3: unknown key trian. Did you mean train?",
    "train.epochs=-1": "override train.epochs=-1: train.epochs: expected a value greater than 0 "
    "and at most 100. Received: -1. Change it, or leave it out for the default, 3.",
    "tflite=[int8": "override tflite=[int8:1: expected YAML; while parsing a flow sequence "
    "expected ',' or ']', but got '<stream end>'. Received: [int8. Check the indentation, "
    "quotes and brackets on this line and the one before.",
}


@pytest.mark.parametrize("override", WRONG_OVERRIDES)
def test_a_mistake_on_the_command_line_names_the_override(load, override):
    with pytest.raises(ConfigError) as caught:
        load(DATA, override)
    assert str(caught.value) == WRONG_OVERRIDES[override]


def test_every_mistake_is_reported_at_once(load):
    with pytest.raises(ConfigError) as caught:
        load("data: {label: x}\ntrain: {epochs: 0, jit: of}\nepoch: 1\n")
    lines = str(caught.value).splitlines()
    assert [" ".join(line.split()[1:4]) for line in lines] == [
        "missing key data.train",
        "train.epochs: expected a",
        "train.jit: expected true",
        "unknown key epoch.",
    ]


def test_a_missing_file_names_the_folder_and_a_near_name(load, tmp_path):
    load(DATA)
    with pytest.raises(ConfigError) as caught:
        load_config("recipes.yaml", Recipe)
    assert str(caught.value) == (
        f"recipes.yaml: expected a YAML config. Received: no file of this name in {tmp_path}. "
        "Check the name and the current folder, or take recipe.yaml."
    )


def test_a_folder_is_not_a_config(tmp_path):
    with pytest.raises(ConfigError, match="expected a YAML config that can be read. Received: Is"):
        load_config(tmp_path, Recipe)


@pytest.mark.parametrize("text", ["run: " + "[" * 5000, "run: &a {<<: *a}"])
def test_endless_nesting_is_a_mistake_not_a_crash(load, text):
    with pytest.raises(ConfigError):
        load(text)


def test_settings_survive_being_written_and_read(load):
    values = {
        "data": {"train": "1e-4", "label": "no", "delimiter": "\t", "columns": ["007", "naïve\n"]},
        "train": {"learning_rate": 3e-7, "jit": True, "class_weights": {"1": 0.5, "~": 2}},
        "run": "a: b # c",
    }
    recipe = load_config(values, Recipe)
    text = to_yaml(recipe)
    assert load(text) == recipe
    # A reader of YAML 1.1 sees the same values.
    assert Recipe.model_validate(yaml.safe_load(text)) == recipe


def test_the_schema_tells_an_editor_what_each_key_is():
    schema = json_schema(Recipe)
    train = schema["$defs"]["Train"]
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert train["description"] == "How the weights are trained."
    assert train["additionalProperties"] is False
    assert train["properties"]["epochs"] == {
        "type": "integer",
        "title": "Epochs",
        "description": "Passes over the training part.",
        "default": 3,
        "exclusiveMinimum": 0,
        "maximum": 100,
        "examples": [3],
    }
    assert train["properties"]["learning_rate"]["examples"] == [1e-4]
    for model in schema["$defs"].values():
        assert all("title" in entry for entry in model["properties"].values())
