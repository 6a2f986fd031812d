"""The guide to tasks, followed: its commands and its Python, on a small encoder.

Run: pytest tests/test_tasks_guide.py
"""

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import small_run

GUIDE = Path(__file__).parents[1] / "docs" / "tasks.md"
# The guide's rows are few: a random encoder wants a larger rate than a pretrained one.
FOR_A_RANDOM_ENCODER = ["encoder=encoder", "train.learning_rate=0.01", "train.precision=float32"]


@pytest.mark.slow
def test_the_guide_can_be_followed(tmp_path, monkeypatch, tfmodel):
    monkeypatch.chdir(tmp_path)
    small_run.write_encoder(Path("encoder"))
    marked = re.findall(
        r"<!-- test -->\n```(\w+)\n(.*?)^```$", GUIDE.read_text("utf-8"), re.S | re.M
    )
    languages = [language for language, _ in marked]
    assert [languages.count(language) for language in ("bash", "python")] == [6, 4]
    answers, printed, names = [], io.StringIO(), {}
    for language, block in marked:
        if language == "python":
            with contextlib.redirect_stdout(printed):
                exec(compile(block, "tasks.md", "exec"), names)
            if "Interpreter" in block:  # later blocks have other texts and words
                tagged_text, tagged_words = names["text"], names["words"]
            continue
        for script in re.findall(r"^python - <<'END'\n(.*?\n)END$", block, re.S | re.M):
            subprocess.run([sys.executable, "-c", script], check=True)
        for line in re.findall(r"^tfmodel (.*)$", block, re.M):
            words = shlex.split(line)
            done = tfmodel(*words, *(FOR_A_RANDOM_ENCODER if words[0] == "run" else []))
            assert done.code == 0, done.err
            if words[0] == "predict":
                answers += map(json.loads, done.out.splitlines())
    assert [[*answer] for answer in answers] == [
        *[["text", "score"]] * 2,
        ["text", "labels", "scores"],
        *[["text", "label", "score", "scores"]] * 2,
        ["text", "entities"],
        ["text", "vector"],
    ]
    asked = json.loads(Path("answered.jsonl").read_text())
    assert asked["context"][asked["start"] : asked["end"]] == asked["answer"]
    # What the guide decodes on the host is what the file answers.
    (decoded,) = names["tm"].load("runs/trips/export/tflite/float32.tflite").predict([tagged_text])
    begun = [word for word, tag in tagged_words if tag.startswith("B-")]
    found = [entity["text"] for entity in decoded["entities"]]
    assert len(begun) == len(found)
    assert all(text.startswith(word) for text, word in zip(found, begun, strict=True))
    assert printed.getvalue().splitlines() == [
        "(1, 2) .",
        "['text', 'score']",
        "(2, 1)",
        "['text', 'score']",
    ]
