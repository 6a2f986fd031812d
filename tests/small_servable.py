"""A SavedModel that is saved and loaded in a moment, and a client of few lines, for the server."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
_METHODS = {"classify_x_to_y": CLASSIFY, "regress_x_to_y": REGRESS}


def write_half_plus(folder: Path, number: float = 2.0) -> Path:
    """Write TF Serving's test model `half_plus_two`, with a few more signatures.

    `x` gives `y = x / 2 + number`; x below -1000 fails. `strings` gives texts back, as `text` and
    as `text_bytes`; `two` takes `a` and `b`; `slow` takes `steps` of work.
    """
    import tensorflow as tf

    def half(x):
        with tf.control_dependencies([tf.debugging.assert_greater(x, -1000.0)]):
            return x / 2.0 + number

    def of_examples(serialized):
        features = {"x": tf.io.FixedLenFeature((), tf.float32)}
        return half(tf.io.parse_example(serialized, features)["x"])

    def strings(text):
        return {"text": tf.identity(text), "text_bytes": tf.identity(text)}

    def two(a, b):
        return {"sum": tf.cast(a, tf.float32) + b}

    def slow(steps):
        def body(step, value):
            return step + 1, tf.tanh(tf.matmul(value, value))

        count = tf.reduce_max(steps)
        start = (tf.constant(0), tf.ones((64, 64)) / 64)
        _, value = tf.while_loop(lambda step, _: step < count, body, start)
        return {"done": tf.zeros_like(tf.cast(steps, tf.float32)) + value[0, 0] * 0}

    def spec(dtype, name, *sizes):
        return tf.TensorSpec((None, *sizes), dtype, name=name)

    module = tf.Module()
    texts = spec(tf.string, "text")
    functions = {
        "serving_default": (lambda x: {"y": half(x)}, [spec(tf.float32, "x")]),
        "classify_x_to_y": (
            lambda inputs: {"scores": of_examples(inputs)[:, None]},
            [spec(tf.string, "inputs")],
        ),
        "regress_x_to_y": (
            lambda inputs: {"outputs": of_examples(inputs)[:, None]},
            [spec(tf.string, "inputs")],
        ),
        "strings": (strings, [texts]),
        "two": (two, [spec(tf.int32, "a"), spec(tf.float32, "b")]),
        "slow": (slow, [spec(tf.int32, "steps")]),
    }
    module.signatures_by_name = {
        name: tf.function(function, autograph=False).get_concrete_function(*specs)
        for name, (function, specs) in functions.items()
    }
    aside = folder.with_name(f".{folder.name}.partial")
    tf.saved_model.save(module, str(aside), signatures=module.signatures_by_name)
    _set_methods(aside / "saved_model.pb")
    aside.rename(folder)
    return folder


def _set_methods(path: Path) -> None:
    """What TensorFlow 2 saves is to predict; say what is to classify and to regress."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for name, method in _METHODS.items():
        saved.meta_graphs[0].signature_def[name].method_name = method
    path.write_bytes(saved.SerializeToString())


def copy_version(version: Path, to: Path) -> Path:
    """A further version, there at once."""
    aside = to.with_name(f".{to.name}.partial")
    shutil.copytree(version, aside)
    return aside.rename(to)


def ask(address: str, path: str, body=None, *, headers=None, method=None) -> tuple[int, dict]:
    """One request: its status and its JSON."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://{address}{path}", data=data, headers=headers or {}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, _read(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _read(error.read()) | {"headers": dict(error.headers)}


def _read(body: bytes) -> dict:
    try:
        return json.loads(body)
    except ValueError:
        return {"text": body.decode()}
