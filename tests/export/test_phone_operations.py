"""The tables of operations, held against the runtimes themselves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import needs
import pytest
from tensorflow.lite.python import schema_py_generated as schema

from tfmodel.export.tflite.metadata import pack_model
from tfmodel.export.tflite.phone_operations import MEDIAPIPE, TASK_LIBRARY_0_4

pytestmark = pytest.mark.slow

# Each loads the files it is given, and names those that it refuses for an operation.
_CLIENTS = {
    "mediapipe": """
import sys
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.text import TextClassifier, TextClassifierOptions
for path in sys.argv[1:]:
    options = TextClassifierOptions(base_options=BaseOptions(model_asset_path=path))
    try:
        TextClassifier.create_from_options(options).close()
    except Exception:
        print(path)
""",
    "task-library-0.4": """
import sys
from tflite_support.task.text import BertNLClassifier
for path in sys.argv[1:]:
    try:
        BertNLClassifier.create_from_file(path)
    except Exception:
        print(path)
""",
}
_RUNTIMES = {
    "mediapipe": (MEDIAPIPE, ["mediapipe==1.2.2"]),
    "task-library-0.4": (TASK_LIBRARY_0_4, ["tflite-support==0.4.4", "numpy<2", "protobuf<4"]),
}


def _with_operation(path: Path, kind: int, version: int) -> bytes:
    """A file that works, and one operation code more that nothing uses."""
    content = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content)
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = kind, version
    code.deprecatedBuiltinCode = min(kind, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    model.operatorCodes.append(code)
    return pack_model(model) + content[content.index(b"PK\x03\x04") :]


@pytest.mark.parametrize("name", _RUNTIMES)
def test_the_newest_versions_are_those_that_the_runtime_takes(exported, tmp_path, name):
    known, packages = _RUNTIMES[name]
    python = needs.environment(name, *packages)
    files, refused = [], set()
    for operation in ("FULLY_CONNECTED", "GATHER", "DEQUANTIZE", "TRANSPOSE", "GELU", "CAST"):
        kind = getattr(schema.BuiltinOperator, operation)
        for version in (known[operation], known[operation] + 1):
            path = tmp_path / f"{operation}_{version}.tflite"
            path.write_bytes(_with_operation(exported / "tflite/float32.tflite", kind, version))
            files.append(path)
            if version > known[operation]:
                refused.add(str(path))
    done = subprocess.run(
        [python, "-c", _CLIENTS[name], *map(str, files)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert set(done.stdout.split()) == refused
