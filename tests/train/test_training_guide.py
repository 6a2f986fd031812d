"""The callbacks and pieces of the training guide, their examples run one after the other."""

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "training.md"


@pytest.mark.slow
def test_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    marked = re.findall(
        r"<!-- test -->\n```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.S | re.M
    )
    assert len(marked) == 6
    names = {}
    for block in marked:
        exec(compile(block, "training.md", "exec"), names)
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["(16, 2)", "[]"]
    assert said[2] in "12345"  # the best epoch: not the first, of six
    assert "'gradient_norm'" in said[3] and "'dev_accuracy'" in said[4]
    assert names["best"].best[0] > 0.6  # the best of six epochs
    assert not Path("guarded/not_a_number.jsonl").exists()
