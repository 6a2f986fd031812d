"""Our files in the runtimes of phones: MediaPipe and the older Task Library.

Neither can be asked in this process: tflite-support needs an old numpy and protobuf, and
MediaPipe loads a TensorFlow Lite of its own. Each runs in an environment made here once, under
the cache folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfmodel.export import load

pytestmark = pytest.mark.slow

_ENVIRONMENTS = Path(
    os.environ.get("TFMODEL_TEST_ENVIRONMENTS", "~/.cache/tfmodel/test-environments")
).expanduser()

_MEDIAPIPE_CLIENT = """
import json, sys
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.text import TextClassifier, TextClassifierOptions
texts, answers = json.load(sys.stdin), {}
for path in sys.argv[1:]:
    options = TextClassifierOptions(base_options=BaseOptions(model_asset_path=path))
    with TextClassifier.create_from_options(options) as classifier:
        results = [classifier.classify(text) for text in texts]
    answers[path] = [
        {item.category_name: item.score for item in result.classifications[0].categories}
        for result in results
    ]
print(json.dumps(answers))
"""

_TASK_LIBRARY_CLIENT = """
import json, sys
from tflite_support.task.text import BertNLClassifier
texts, answers = json.load(sys.stdin), {}
for path in sys.argv[1:]:
    classifier = BertNLClassifier.create_from_file(path)
    results = [classifier.classify(text) for text in texts]
    answers[path] = [
        {item.category_name: item.score for item in result.classifications[0].categories}
        for result in results
    ]
print(json.dumps(answers))
"""

_RUNTIMES = {
    "mediapipe": (["mediapipe==1.2.2"], "mediapipe", _MEDIAPIPE_CLIENT),
    # Needs Debian's libusb-1.0-0 and libportaudio2 too.
    "task-library-0.4": (
        ["tflite-support==0.4.4", "numpy<2", "protobuf<4"],
        "tflite_support.task.text",
        _TASK_LIBRARY_CLIENT,
    ),
}


def _give_up(reason: str) -> None:
    """Skip, or fail where everything is demanded."""
    if os.environ.get("TFMODEL_REQUIRE_ALL") == "1":
        pytest.fail(f"TFMODEL_REQUIRE_ALL=1 and {reason}")
    pytest.skip(reason)


def _python_of(name: str) -> str:
    """The interpreter of a runtime's own environment, made where it is missing."""
    packages, module, _ = _RUNTIMES[name]
    folder = _ENVIRONMENTS / name
    python = folder / "bin/python"
    if not python.exists():
        interpreter = sys.executable if sys.version_info[:2] == (3, 11) else None
        interpreter = interpreter or shutil.which("python3.11")
        if interpreter is None:
            _give_up(f"{name} needs Python 3.11, which is not here")
        aside = folder.with_name(f".{name}.partial-{os.getpid()}")
        made = subprocess.run([interpreter, "-m", "venv", str(aside)], capture_output=True)
        if made.returncode == 0:
            pip = [str(aside / "bin/python"), "-m", "pip", "install", "-q", *packages]
            made = subprocess.run(pip, capture_output=True)
        if made.returncode != 0:
            shutil.rmtree(aside, ignore_errors=True)
            _give_up(f"{name} cannot be installed: {made.stderr.decode()[-500:]}")
        aside.rename(folder)  # its interpreter is a link, and finds its packages beside itself
    tried = subprocess.run([str(python), "-c", f"import {module}"], capture_output=True)
    if tried.returncode != 0:
        _give_up(f"{name} cannot be imported: {tried.stderr.decode()[-500:]}")
    return str(python)


def _ask(name: str, texts: list[str], paths: list[Path], labels: list[str]) -> dict:
    """Scores (n, C) that a runtime gives, by file."""
    done = subprocess.run(
        [_python_of(name), "-c", _RUNTIMES[name][2], *map(str, paths)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{name} refused: {done.stderr[-2000:]}"
    answers = json.loads(done.stdout.splitlines()[-1])
    return {
        Path(path): np.array([[answer[label] for label in labels] for answer in rows])
        for path, rows in answers.items()
    }


@pytest.mark.parametrize("name", _RUNTIMES)
def test_a_phone_gives_our_labels_and_scores(exported, tiny, name):
    # A device strips no accents: where it splits a text otherwise, scores may differ.
    texts = [text for text in tiny.texts if "café" not in text]
    assert len(texts) > 20 and any(not text.isascii() for text in texts)
    paths = sorted((exported / "tflite").iterdir())
    answers = _ask(name, texts, paths, tiny.described["labels"])
    assert len(answers) == 3
    for path, scores in answers.items():
        ours = load(path).probabilities(texts)
        # Processors and releases round activations to int8 each in their own way.
        limit = 0.05 if path.stem == "int8" else 1e-3
        np.testing.assert_allclose(scores, ours, atol=limit, err_msg=path.name)
        assert scores.std(axis=0).min() > 0.05  # not one answer for all
