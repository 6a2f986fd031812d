"""What an editor accepts by the JSON Schema is what loading accepts, key by key.

Run: pytest tests/test_schema.py
"""

import random
import typing

import jsonschema
import pytest
import yaml

from tfmodel.annotations import flat_types, is_model
from tfmodel.config import ConfigError, _Loader, load_config
from tfmodel.kinds import KINDS, schema_of_all
from tfmodel.schema import json_schema

# As one types them behind `key:`.
VALUES = (
    *("null", "true", "False", "on", "No", "y", "'1'", "'true'", "0", "1", "2", "-1", "7", "64"),
    *("0.0", "0.5", "1.0", "2.5", "-0.1", "1e-4", "1e3", "100000000000", '"5"', '"0.5"', "'1e-3'"),
    *('""', "abc", "007", "auto", "none", "all", "csv", "a b", "${HOME}", "tab", "10", "EN"),
    *("[]", "[1]", "[1, 2]", "[a]", "[float32]", "['1', '2']", "[null]", "[a, a]", "[en, EN]"),
    *("[[]]", "[US]", "[latin, Old Turkic]", "{}", "{a: 1}", "{a: '1'}", "{a: -1}", "{a: b}"),
    *("{a: null}", "{a: true}", "{name: abc}", "{embeddings: 0.1}", "{head: 1}", "{size: 500}"),
    *("{0: 1}", "{name: sop}", "{shortest: 4}", "{mask_rate: 0.2}", "{name: fgm}"),
)  # fmt: skip
# What a key wants beside it, which JSON Schema is not told.
BESIDE = {
    ("AdversarialSettings", "probe_size"): {"name": "vat"},
    ("AdversarialSettings", "start_size"): {"name": "freelb"},
    ("AdversarialSettings", "step_size"): {"name": "pgd"},
    ("AdversarialSettings", "steps"): {"name": "pgd"},
    ("AugmentSettings", "model"): {"methods": ["replacement"]},
    ("AugmentSettings", "synonyms"): {"methods": ["insertion"]},
    ("TaskSettings", "crf"): {"name": "tag"},
    ("TaskSettings", "margin"): {"name": "embed"},
    ("TaskSettings", "normalize"): {"name": "embed"},
    ("TaskSettings", "temperature"): {"name": "embed"},
    **{(f"{name}Settings", "mask_share"): {"random_share": 0} for name in ("Mlm", "Nsp", "Sop")},
    **{(f"{name}Settings", "random_share"): {"mask_share": 0} for name in ("Mlm", "Nsp", "Sop")},
}
# JSON Schema cannot say: which encodings Python has; that 1.0 is not the one character that 1 is;
# that groups of a pattern, and columns, are those of other keys; that a split wants its column, and
# a column its split; that an encoder is in place of a model.
BEYOND = {
    *(("DataSettings", key) for key in ("columns", "delimiter", "encoding", "pattern")),
    *(("DataSettings", key) for key in ("group", "time")),
    ("CorpusSettings", "encoding"),
    *(("PretrainingSettings", key) for key in ("encoder", "model")),
}


def sections() -> list:
    """Every section of a config: its class."""
    found, waiting = [], [kind.settings for kind in KINDS]
    while waiting:
        model = waiting.pop()
        if model not in found:
            found.append(model)
            for field in model.model_fields.values():
                waiting += filter(is_model, flat_types(field.annotation))
    return found


def least(model) -> dict:
    """The values without which a section is none."""
    found = {"model": "tiny"} if "corpus" in model.model_fields else {}
    for key, field in model.model_fields.items():
        choices = typing.get_args(field.annotation)
        if field.is_required() or (key == "name" and len(choices) == 1):
            (kind,) = {*filter(is_model, flat_types(field.annotation))} or {None}
            found[key] = (field.examples or choices or [None])[0] if kind is None else least(kind)
    return found


def differences(values_of_key) -> list[str]:
    """Where schema and loading differ, by section, key and value."""
    found = []
    for model in sections():
        validator = jsonschema.Draft202012Validator(json_schema(model))
        for key in sorted(model.model_fields):
            name = (model.__name__, key)
            if name in BEYOND:
                continue
            values = least(model) | BESIDE.get(name, {})
            for text in values_of_key(name):
                try:
                    load_config(values, model, overrides=[f"{key}={text}"])
                    refusal = None
                except ConfigError as error:
                    refusal = str(error)
                read = yaml.load(text, _Loader)
                if validator.is_valid({**values, key: read}) != (refusal is None):
                    found.append(f"{'.'.join(name)}: {text}: {refusal or 'loads'}")
    return found


def test_editors_and_loading_agree():
    # Of each key some values, others for the next key.
    assert differences(lambda name: random.Random(repr(name)).sample(VALUES, 3)) == []


@pytest.mark.slow
def test_editors_and_loading_agree_on_more_values():
    assert differences(lambda name: random.Random(repr(name[::-1])).sample(VALUES, 20)) == []


@pytest.mark.parametrize(
    ("section", "is_one"),
    [
        ({"train": None, "objective": None, "corpus": {"train": "a", "lines": None}}, True),
        ({"corpus": None}, False),
        ({"train": {"learning_rate": 0}}, False),
        ({"train": {"steps": "5"}}, False),
        ({"train": {"recompute": "on"}, "run": 2024}, True),
        ({"objective": {"mask_rate": 0.2}}, True),
        ({"objective": {"shortest": 4}}, False),
    ],
    ids=repr,
)
def test_the_schema_of_all_is_what_loads(section, is_one):
    values = {"run": "x", "model": "tiny", "corpus": {"train": "a.txt"}, **section}
    assert jsonschema.Draft202012Validator(schema_of_all()).is_valid(values) == is_one


def test_a_number_in_quotes_is_no_number():
    with pytest.raises(
        ConfigError, match=r'steps: expected a whole number. Received: "5". Write it'
    ):
        load_config({"train": {"steps": "5"}}, KINDS[1].settings)
