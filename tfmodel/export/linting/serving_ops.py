"""Since which TF Serving release each operation is there, and what to do about one that is not.

The table is made by `benchmarks/serving_op_table.py` from the wheels of TensorFlow and TF Text that
each release links. Names alone are compared: an attribute that an operation got later, or a kernel
that is missing for a type, is not seen.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

from tfmodel.config import ConfigError

_TABLE = Path(__file__).with_name("serving_ops.json")

_CALLS_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
_TENSORRT = {"TRTEngineOp", "CreateTRTResourceHandle", "InitializeTRTResource"}
_FASTER_TOKENIZER = "tensorflow_text.BertTokenizer emits only operations that 2.2 has"
_TRIM = (
    "Cut with core operations, such as the slice `tokens[:, :length]`, instead of "
    "tensorflow_text.RoundRobinTrimmer"
)
_INSTEAD = {
    "FastBertNormalize": _FASTER_TOKENIZER,
    "FastWordpieceTokenizeWithOffsets": _FASTER_TOKENIZER,
    "TFText>RoundRobinGenerateMasks": _TRIM,
    "TFText>RoundRobinTrim": _TRIM,
    "XlaCallModule": "Export from TensorFlow (KERAS_BACKEND=tensorflow), not from JAX",
}


def releases() -> tuple[str, ...]:
    """The TF Serving releases of the table, such as `2.12`, oldest first."""
    return tuple(_read()["since"])


def check_release(target: str) -> str:
    """A TF Serving release as the table names it.

    Args:
        target: `2.12`, or `2.12.1`, of which the last number is dropped. One newer than the table
            is taken to have what the newest has.

    Returns:
        Major and minor number.

    Raises:
        ConfigError: it is no release, or older than the table.
    """
    oldest, newest = releases()[0], releases()[-1]
    found = re.fullmatch(r"v?(\d+\.\d+)(\.\d+)?(-gpu)?", str(target).strip())
    if not found or _number(found[1]) < _number(oldest):
        raise ConfigError(
            f"target must be a TF Serving release from {oldest} on, such as 2.12. "
            f"Received: {target}. The newest known is {newest}."
        )
    return found[1]


def since(operation: str) -> str | None:
    """The first TF Serving release from which on every one has an operation; None: none has."""
    if operation.startswith("_"):  # TensorFlow's own, such as _Arg
        return releases()[0]
    return _names("since").get(operation)


def until(operation: str) -> str | None:
    """The last TF Serving release that has an operation; None where the newest has it."""
    return _names("until").get(operation)


def is_in(operation: str, release: str) -> bool:
    """Whether the stock binary of a TF Serving release has an operation."""
    first, last = since(operation), until(operation)
    return (
        first is not None
        and _number(first) <= _number(release)
        and (last is None or _number(release) <= _number(last))
    )


def is_in_all(operation: str) -> bool:
    """Whether every release of the table has an operation."""
    return since(operation) == releases()[0] and until(operation) is None


def newest(*found: str) -> str:
    """The newest of some releases."""
    return max(found, key=_number)


def remedy(operation: str) -> str:
    """What to do about an operation that a release has not: whole sentences."""
    if operation in _CALLS_PYTHON:
        return (
            "It calls back into Python, which no server has. Write it with TensorFlow's own "
            "operations, or do it before the request."
        )
    if operation in _TENSORRT:
        return "Only a server built with TensorRT has it. Serve the model as it was before."
    first, last = since(operation), until(operation)
    if first is None:
        return (
            "No stock TF Serving has it. Replace it by core operations, or build a server that "
            "has it."
        )
    where = f"Serve with {first} {f'to {last}' if last else 'or newer'}"
    instead = _INSTEAD.get(operation)
    return f"{instead}; or {where[0].lower()}{where[1:]}." if instead else f"{where}."


def _number(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


@functools.cache
def _read() -> dict[str, dict[str, list[str]]]:
    return json.loads(_TABLE.read_text("utf-8"))


@functools.cache
def _names(key: str) -> dict[str, str]:
    return {name: release for release, names in _read()[key].items() for name in names}
