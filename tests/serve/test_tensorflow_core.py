"""A server imports TensorFlow without Keras, and whoever asks for Keras later has it. All slow.

Run: pytest -m slow tests/serve/test_tensorflow_core.py
"""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
HEAVY = "{'keras', 'matplotlib', 'sklearn', 'pandas', 'transformers', 'torch'}"


def run(code, secret="\0"):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert secret not in done.stdout + done.stderr
    return done.stdout.split()


def test_the_operations_are_there_and_keras_comes_when_it_is_asked_for():
    said = run(
        "import os, sys\n"
        "from tfmodel.serve.tensorflow_core import import_tensorflow, load_text_operations\n"
        "before = {**os.environ}\n"
        "tf = import_tensorflow(); load_text_operations(); import_tensorflow()\n"
        "name = 'TF_CPP_MIN_LOG_LEVEL'\n"
        "print(os.environ.get(name) == before.get(name))\n"
        f"print(sorted({HEAVY} & set(sys.modules)))\n"
        "from tensorflow.python.framework import op_def_registry\n"
        "print(op_def_registry.get('FastWordpieceTokenizeWithOffsets') is not None)\n"
        "import tensorflow.keras\n"
        "import tensorflow_text\n"
        "print(tf.keras.layers.Dense is tensorflow.keras.layers.Dense, 'keras' in sys.modules)\n"
        "print(tensorflow_text.WhitespaceTokenizer().tokenize(['a b']).to_list()[0][1] == b'b')\n"
    )
    assert said == ["True", "[]", "True", "True", "True", "True"]


def test_a_server_answers_without_keras_and_tensorflow_tells_nobody_what_was_asked(tmp_path):
    from small_servable import write_half_plus

    write_half_plus(tmp_path / "served" / "1")
    said = run(
        "import json, sys, urllib.request\n"
        "from tfmodel.serve import Server, serve_settings\n"
        "settings = serve_settings(rest_port=0, grpc_port=0)\n"
        f"with Server({str(tmp_path / 'served')!r}, settings=settings) as server:\n"
        "    url = f'http://{server.rest_address}/v1/models/model:predict'\n"
        "    body = json.dumps({'instances': [2.0]}).encode()\n"
        "    print(json.load(urllib.request.urlopen(url, data=body))['predictions'])\n"
        "    try:\n"
        "        urllib.request.urlopen(url, data=body.replace(b'2.0', b'-54321'))\n"
        "    except urllib.error.HTTPError as error:\n"
        "        print(error.code)\n"
        f"print(sorted({HEAVY} & set(sys.modules)))\n",
        secret="54321",
    )
    assert said == ["[3.0]", "400", "[]"]
