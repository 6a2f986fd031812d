"""The `data:` section: what it accepts, and what it says of what it does not."""

import pytest

from tfmodel.config import ConfigError, load_config, to_yaml
from tfmodel.data import DataSettings


def test_defaults_round_trip():
    settings = DataSettings(train="train.csv")
    assert settings.test_share == 0.2 and settings.dev_share == 0.1
    assert settings.wanted() == ["text", "label"]
    import yaml

    assert DataSettings(**yaml.safe_load(to_yaml(settings))) == settings


@pytest.mark.parametrize(
    "given, meant", [("tab", "\t"), ("\\t", "\t"), ("\t", "\t"), ("space", " "), (";", ";")]
)
def test_delimiters_have_names(given, meant):
    assert DataSettings(train="a", delimiter=given).delimiter == meant


@pytest.mark.parametrize(
    "values, words",
    [
        ({"encoding": "latin1x"}, "Did you mean latin"),
        ({"encoding": "base64"}, "does not turn bytes into text"),
        ({"delimiter": "||"}, "expected one character"),
        ({"delimiter": "\n"}, "expected one character"),
        ({"pattern": "(?P<text>"}, "not a regular expression"),
        ({"pattern": "(?P<text>.*)"}, "pattern has no group \\(\\?P<label>"),
        ({"pattern": "(?P<text>.)(?P<label>.)", "format": "csv"}, "pattern goes with format regex"),
        ({"format": "regex"}, "format regex needs pattern"),
        ({"columns": ["text", "category"]}, "columns does not name label; it has text, category"),
        ({"columns": ["text", "text", "label"]}, "columns holds a name twice"),
        ({"text": "label"}, "text, text_pair and label must differ"),
        ({"test_share": 0.9, "dev_share": 0.2}, "test_share \\+ dev_share must be below 1"),
        ({"dev_share": 0}, "dev_share"),
        ({"max_rows": 1}, "max_rows"),
        ({"max_rows": True}, "max_rows"),
        ({"format": "xml"}, "format"),
        ({"train": ""}, "train"),
        ({"cleaning": {"htm": True}}, "cleaning.htm"),
    ],
)
def test_mistakes_are_told(values, words):
    with pytest.raises(ConfigError, match=words):
        load_config({"train": "a.csv", **values}, DataSettings)
