"""The guide to checkpoints, followed in an empty folder."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "checkpoints.md"


def test_the_guide_can_be_followed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    marked = re.findall(
        r"<!-- test -->\n```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.S | re.M
    )
    assert marked
    names: dict = {}
    for block in marked:
        exec(compile(block, "checkpoints.md", "exec"), names)
    assert capsys.readouterr().out == "(2, 6, 32)\n['bad', 'good']\n"
