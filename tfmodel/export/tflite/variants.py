"""Number formats of TFLite files: what TensorFlow's converter is told, and what it left out."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfmodel.export.quiet import quiet
from tfmodel.export.tflite.metadata import pack_model

CalibrationRows = Iterable[Mapping[str, np.ndarray]]
"""Rows as the file takes them: `ids`, `mask` and `segment_ids`, int32 (1, T)."""


class ConversionError(RuntimeError):
    """The converter refused the model, or wrote a file that does not answer as the model."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A number format.

    Attributes:
        bytes_a_weight: what a weight of a large matrix takes.
        probe_limit: how far the scores of rows of any ids may be off; what a coarse one loses
            is for `check_parity` to say, on real rows.
        small_tables: whether the graph itself holds the embeddings in int8.
        is_calibrated: whether conversion needs real rows.
    """

    bytes_a_weight: int
    probe_limit: float
    small_tables: bool = False
    is_calibrated: bool = False


VARIANTS = {
    "float32": Variant(4, 1e-3),
    "float16": Variant(2, 0.05),
    "int8": Variant(1, 2.0, small_tables=True),
    "int8_weights": Variant(1, 2.0, small_tables=True),
    "int8_full": Variant(1, 2.0, small_tables=True, is_calibrated=True),
}


def convert(
    saved: str,
    variant: str,
    *,
    per_channel: bool = False,
    calibration: CalibrationRows | None = None,
) -> bytes:
    """Convert a SavedModel.

    Args:
        saved: folder of a SavedModel of `phone_module`.
        variant: one of `VARIANTS`.
        per_channel: whether the matrices of `int8` and `int8_full` have a scale for each column:
            nearer to the model, but older runtimes do not know it.
        calibration: rows for `int8_full`.

    Returns:
        The file's content, without metadata.

    Raises:
        ConversionError: an operation is no TFLite builtin, or not one in int8.
    """
    with quiet():
        converter = tf.lite.TFLiteConverter.from_saved_model(
            saved, signature_keys=["serving_default"]
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if variant != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if variant == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if variant == "int8" and not per_channel:
            converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        try:
            if variant == "int8_full":
                content = _calibrated(converter, calibration, per_channel)
            else:
                content = converter.convert()
        except Exception as error:
            raise ConversionError(_refused(error)) from error
    return _widen_matrices(content) if variant == "int8_weights" else content


def _calibrated(
    converter: tf.lite.TFLiteConverter, calibration: CalibrationRows, per_channel: bool
) -> bytes:
    """Quantize the matrix products, their inputs and outputs included; the rest stays float32.

    In int8 throughout, MiniLM loses 14 points on SST-2: 256 steps hold neither the variances of a
    normalization nor the small shares of a softmax.
    """
    # The converter's public way knows no such choice; its debugger makes it by this function.
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.schema_py_generated import BuiltinOperator

    rows = [dict(row) for row in calibration]
    converter.representative_dataset = lambda: iter(rows)
    converter._experimental_calibrate_only = True
    others = {name for name in vars(BuiltinOperator) if name.isupper()} - {"FULLY_CONNECTED"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        calibrated = converter.convert()
    return mlir_quantize(
        calibrated,
        denylisted_ops=others,
        disable_per_channel_for_dense_layers=not per_channel,
    )


def _refused(error: Exception) -> str:
    """What the converter did not take, and which layer it is in."""
    found = []
    for entry in getattr(error, "errors", []):
        if entry.operator.name:
            operation = entry.operator.name.removeprefix("tf.")
            places = [call.name.split("@")[0] for call in entry.location.call]
            layer = places[0].rpartition("/")[0] if places else ""
            found.append(f"{operation} in layer {layer or 'unknown'}")
    if not found:
        return f"TensorFlow's converter refused the model: {str(error)[:500]}"
    return (
        "Expected operations that TFLite has built in; the phone runtimes have no others. "
        f"Received: {'; '.join(sorted(set(found)))}. Compute it there with other operations."
    )


# --- weight-only int8: the converter knows none ----------------------------------------------


def _widen_matrices(content: bytes) -> bytes:
    """Turn dynamic-range int8 into weight-only: every int8 matrix becomes float32 before its use.

    XNNPACK reads such a matrix as it is, eight bits a weight, and computes in float32; older
    interpreters widen it once, when they load.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    subgraph = model.subgraphs[0]
    fully_connected = schema.BuiltinOperator.FULLY_CONNECTED
    model.operatorCodes.append(_operator_code(schema, schema.BuiltinOperator.DEQUANTIZE, 2))
    operators = []
    for operator in subgraph.operators:
        matrix = operator.inputs[1] if len(operator.inputs) > 1 else -1
        kind = model.operatorCodes[operator.opcodeIndex].builtinCode
        if kind == fully_connected and subgraph.tensors[matrix].type == schema.TensorType.INT8:
            wide = _wide_tensor(schema, subgraph.tensors[matrix])
            subgraph.tensors.append(wide)
            place = len(subgraph.tensors) - 1
            operators.append(_dequantize(schema, len(model.operatorCodes) - 1, matrix, place))
            operator.inputs = np.array([operator.inputs[0], place, *operator.inputs[2:]], np.int32)
            operator.builtinOptions.asymmetricQuantizeInputs = False
        operators.append(operator)
    subgraph.operators = operators
    for code in model.operatorCodes:
        if code.builtinCode == fully_connected:
            code.version = 1
    return pack_model(model)


def _operator_code(schema: Any, kind: int, version: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = version
    return code


def _wide_tensor(schema: Any, narrow: Any) -> Any:
    wide = schema.TensorT()
    wide.name = narrow.name + b"_wide"
    wide.shape, wide.type, wide.hasRank = narrow.shape, schema.TensorType.FLOAT32, True
    wide.buffer = 0  # the empty one: it is computed
    return wide


def _dequantize(schema: Any, code: int, narrow: int, wide: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = code
    operator.inputs, operator.outputs = np.array([narrow], np.int32), np.array([wide], np.int32)
    operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    operator.builtinOptions = schema.DequantizeOptionsT()
    return operator
