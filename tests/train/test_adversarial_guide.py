"""The guide to adversarial training, its marked blocks run in an empty folder."""

import itertools
import json
import re
import shlex
from pathlib import Path

import pytest
import small_run
import yaml

import tfmodel as tm

ROOT = Path(__file__).parents[2]
PLACES = {"good": ["was lovely", "tasted fresh"], "bad": ["was cold", "tasted stale"]}
FOODS, DAYS = ["soup", "bread", "fish", "salad", "rice"], ["today", "again", "at noon", "on Monday"]


@pytest.mark.slow
def test_guide_can_be_followed(tmp_path, monkeypatch, tfmodel):
    monkeypatch.chdir(tmp_path)
    encoder = small_run.write_encoder(tmp_path / "encoder")
    monkeypatch.setattr(tm, "DEFAULT_ENCODER", str(encoder), raising=False)
    rows = [
        f"The {food} {word} {day}.,{label}\n"
        for label, words in PLACES.items()
        for food, word, day in itertools.product(FOODS, words, DAYS)
    ]
    Path("reviews.csv").write_text("review,verdict\n" + "".join(rows))
    config = {
        "run": "runs/reviews",
        "encoder": "encoder",
        "data": {"train": "reviews.csv", "text": "review", "label": "verdict"},
        "train": {"epochs": 1, "precision": "float32", "max_length": 16},
    }
    Path("reviews.yaml").write_text(yaml.dump(config))
    page = (ROOT / "docs" / "adversarial.md").read_text("utf-8")
    marked = re.findall(r"<!-- test -->\n```(\w+)\n(.*?)^```$", page, re.S | re.M)
    assert [language for language, _ in marked] == ["bash", "python"]
    for language, block in marked:
        if language == "python":
            found = {}
            exec(compile(block, "adversarial.md", "exec"), found)
            assert len(found["training"].history.history["loss"]) == 2
            continue
        (words,) = (shlex.split(line) for line in block.splitlines())
        done = tfmodel(*words[1:])
        assert done.code == 0, done.err
    saved = yaml.safe_load(Path("runs/fgm/config.yaml").read_text())
    assert saved["train"]["adversarial"]["name"] == "fgm"
    assert json.loads(Path("runs/fgm/metrics.json").read_text())["train"]["epochs"] == 1
