"""The examples of docs/regularization.md, in order, with a tiny encoder in place of MiniLM."""

import re
from pathlib import Path

import pytest
import toy

import tfmodel as tm
from tfmodel.model import BertConfig, build_encoder, save_encoder

GUIDE = Path(__file__).parents[2] / "docs" / "regularization.md"


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    config = BertConfig(
        vocabulary_size=len(toy.PIECES),
        hidden_size=16,
        layers=2,
        heads=2,
        intermediate_size=32,
        max_positions=32,
    )
    folder = tmp_path / "encoder"
    save_encoder(build_encoder(config), folder, tokenizer=toy.tokenizer())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tm, "fetch", lambda source: folder, raising=False)
    blocks = re.findall(r"<!-- test -->\n```python\n(.*?)^```$", GUIDE.read_text(), re.S | re.M)
    assert len(blocks) == 6
    names: dict = {}
    for block in blocks:
        exec(compile(block, GUIDE.name, "exec"), names)
    assert re.search(r"best epoch: \d", capsys.readouterr().out)
    answers = tm.load(tmp_path / "reviews-model").predict(["a long film"])
    assert answers[0]["label"] in ("bad", "good")
