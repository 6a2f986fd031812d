"""TensorFlow 2.12, the oldest that we promise, answers with what we export.

Its release of TF Serving links the same kernels and tensorflow_text 2.12.1, so an environment of
those two loads and refuses as that server would: by way of a session, as it does, and by way of
`tf.saved_model.load`, as Python users do.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess

import pytest
import questions

pytestmark = pytest.mark.slow

_LIMITS = {"float32": 1e-4, "mixed_bfloat16": 0.05}

# In: version folder -> signature -> column -> rows. Out: the same of outputs, from each way in,
# and the sizes of the batches that the warm-up asked for.
_CLIENT = """
import json, sys
import numpy as np
import tensorflow as tf
import tensorflow_text
from tensorflow_serving.apis import prediction_log_pb2

def values(column):
    return column if isinstance(column[0], str) else np.array(column, np.int32)

def rows(outputs):
    found = {name: np.array(output).tolist() for name, output in outputs.items()}
    return {
        name: [cell.decode() for cell in cells] if isinstance(cells[0], bytes) else cells
        for name, cells in found.items()
    }

def in_session(folder, asked):
    answers, sizes = {}, []
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], folder)

        def run(name, inputs):
            signature = loaded.signature_def[name]
            feeds = {signature.inputs[key].name: value for key, value in inputs.items()}
            fetches = {key: info.name for key, info in signature.outputs.items()}
            return rows(session.run(fetches, feeds))

        for name, inputs in asked.items():
            answers[name] = run(name, {key: values(column) for key, column in inputs.items()})
        path = folder + "/assets.extra/tf_serving_warmup_requests"
        for record in tf.compat.v1.io.tf_record_iterator(path):
            log = prediction_log_pb2.PredictionLog.FromString(record)
            request = log.predict_log.request
            inputs = {key: tf.make_ndarray(proto) for key, proto in request.inputs.items()}
            answer = run(request.model_spec.signature_name, inputs)
            sizes.append([request.model_spec.signature_name, len(next(iter(answer.values())))])
    return {"answers": answers, "warmup": sizes}

def with_load(folder, asked):
    loaded = tf.saved_model.load(folder)
    answers = {}
    for name, inputs in asked.items():
        inputs = {key: tf.constant(values(column)) for key, column in inputs.items()}
        answers[name] = rows(loaded.signatures[name](**inputs))
    return {"answers": answers}

assert tf.__version__.startswith("2.12."), tf.__version__
found = {}
for folder, asked in json.load(sys.stdin).items():
    for way in (with_load, in_session):
        try:
            found.setdefault(folder, {})[way.__name__] = way(folder, asked)
        except Exception as error:
            found.setdefault(folder, {})[way.__name__] = {"refused": str(error)[:2000]}
print(json.dumps(found))
"""


@dataclasses.dataclass(frozen=True)
class Asked:
    """One export: how it computes, what was asked, and what came back by each way in."""

    precision: str
    questions: dict[str, questions.Question]
    came_back: dict[str, dict]


@pytest.fixture(scope="module")
def asked(tiny, tiny_pairs, tmp_path_factory) -> dict[str, Asked]:
    """Every kind of SavedModel, asked in one process of TensorFlow 2.12."""
    python = questions.older_python()
    texts, pairs = questions.TEXTS, [*reversed(questions.TEXTS)]
    written = {}
    for name, subject, second in [
        ("single", questions.trained(tiny), None),
        ("pairs", questions.trained(tiny_pairs), pairs),
        ("real", questions.real_classifier(), None),
    ]:
        folders = questions.write_savedmodels(subject, tmp_path_factory.mktemp(name))
        for artifact, folder in folders.items():
            precision = artifact.removeprefix("savedmodel").removeprefix("_") or "float32"
            asks = questions.questions(folder, subject, texts, second)
            written[f"{name}-{precision}"] = (precision, folder, asks)
    given = {
        str(folder): {name: question.inputs for name, question in asks.items()}
        for _, folder, asks in written.values()
    }
    done = subprocess.run(
        [python, "-c", _CLIENT],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    came_back = json.loads(done.stdout.splitlines()[-1])
    return {
        name: Asked(precision, asks, came_back[str(folder)])
        for name, (precision, folder, asks) in written.items()
    }


@pytest.mark.parametrize("way", ["in_session", "with_load"])
@pytest.mark.parametrize("precision", list(_LIMITS))
@pytest.mark.parametrize("name", ["single", "pairs", "real"])
def test_every_signature_answers_as_keras(asked, name, precision, way):
    export = asked[f"{name}-{precision}"]
    came_back = export.came_back[way]
    assert "refused" not in came_back, came_back["refused"]
    assert set(came_back["answers"]) == set(export.questions) >= questions.SIGNATURES
    for signature, question in export.questions.items():
        answers = came_back["answers"][signature]
        questions.check(question, answers, limit=_LIMITS[precision])


@pytest.mark.parametrize("name", ["single-float32", "pairs-float32"])
def test_warm_up_requests_are_answered(asked, name):
    sizes = asked[name].came_back["in_session"]["warmup"]
    assert ["serving_default", 1] in sizes and len(sizes) >= 3
    assert {signature for signature, _ in sizes} <= set(asked[name].questions)
