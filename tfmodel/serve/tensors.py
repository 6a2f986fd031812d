"""Tensors in TF Serving's JSON and in its protocol buffers, to arrays and back.

Source: `util/json_tensor.cc` and `servables/tensorflow/predict_util.cc` of TF Serving, whose words
errors have; what the client sent is not repeated in them.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmodel.serve.errors import ServingError, invalid
from tfmodel.serve.servable import Signature, Tensor

MOST_VALUES = 2**22
"""Of one tensor: a small message can ask for a large one."""
_DEEPEST = 32
_BYTES_OF_VALUE = 12
_BYTES_SUFFIX = "_bytes"

_INTEGERS = {
    "int8": (-(2**7), 2**7 - 1),
    "uint8": (0, 2**8 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
_FLOATS = {"float32", "float64"}
_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int8": "int_val",
    "uint8": "int_val",
    "int16": "int_val",
    "uint16": "int_val",
    "int32": "int_val",
    "uint32": "uint32_val",
    "int64": "int64_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
}


# --- JSON to arrays -------------------------------------------------------------------------


def parse_object(body: bytes) -> dict[str, Any]:
    """Read the JSON object of a request.

    Raises:
        ServingError: INVALID_ARGUMENT, it is no JSON, no object, no UTF-8 or too deep.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        value = json.loads(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise invalid(
            f"JSON Parse error: Invalid encoding in string. at offset: {error.start}"
        ) from None
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: Invalid value. at offset: {error.pos}") from None
    except (RecursionError, ValueError):  # nested too deep; a number of thousands of digits
        raise invalid("JSON Parse error: The document is too deep, or a number too long") from None
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {_type(value)} Is not object")
    return value


def signature_name(request: Mapping[str, Any]) -> str:
    """The signature that a JSON request names; empty where it names none."""
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            "JSON Value not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def inputs_of_json(
    signature: Signature, request: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], bool]:
    """Read the inputs of a request to predict.

    Args:
        signature: what is asked.
        request: the body's object.

    Returns:
        Arrays by name, and whether they came by row (`instances`), not by column (`inputs`).

    Raises:
        ServingError: INVALID_ARGUMENT, in TF Serving's words.
    """
    if "instances" in request and "inputs" in request:
        raise invalid(
            "JSON Value: Object Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist "
        )
    if "instances" in request:
        rows = request["instances"]
        if not isinstance(rows, list):
            raise invalid("JSON Value: Object Excepting 'instances' to be an list/array")
        if not rows:
            raise invalid("JSON Value: Object No values in 'instances' array")
        return _checked(signature, _by_row(signature, rows)), True
    if "inputs" in request:
        return _checked(signature, _by_column(signature, request["inputs"])), False
    raise invalid("Missing 'inputs' or 'instances' key")


def _checked(signature: Signature, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for name, value in values.items():
        signature.inputs[name].check(value)
    return values


def _by_row(signature: Signature, rows: list) -> dict[str, np.ndarray]:
    names = [*signature.inputs]
    if not isinstance(rows[0], dict) and len(names) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    if not _is_object(rows[0]):
        for number, row in enumerate(rows):
            if _is_object(row):
                raise invalid(f"Expecting value/list but got object at item {number} of input list")
        return {names[0]: _of_elements(signature.inputs[names[0]], rows, "")}
    wanted = {*names}
    for number, row in enumerate(rows):
        if not _is_object(row):
            raise invalid(f"Expecting object but got list at item {number} of input list")
        if row.keys() != wanted:
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: keys must "
                f"be equal to: {','.join(names)}"
            )
    return {
        name: _of_elements(signature.inputs[name], [row[name] for row in rows], f" key: {name}")
        for name in names
    }


def _of_elements(tensor: Tensor, elements: list, key: str) -> np.ndarray:
    """One array of a value a row, all of the first one's shape."""
    shape = _shape(elements[0])
    _check_count(tensor, (len(elements), *shape))
    values: list = []
    for number, element in enumerate(elements):
        try:
            own = _shape(element)
            if own != shape:
                raise invalid(f"Expecting shape {_shown(shape)} but got: {_shown(own)}")
            _fill(tensor, element, shape, 0, values)
        except ServingError as error:
            raise invalid(
                f"Failed to process element: {number}{key} of 'instances' list. Error: "
                f"Invalid argument: {error.message}"
            ) from None
    return _array(tensor, values, (len(elements), *shape))


def _by_column(signature: Signature, columns: Any) -> dict[str, np.ndarray]:
    names = [*signature.inputs]
    if not _is_object(columns):
        if len(names) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        columns = {names[0]: columns}
    found = {}
    for name in names:
        if name not in columns:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        values: list = []
        shape = _shape(columns[name])
        _check_count(signature.inputs[name], shape)
        _fill(signature.inputs[name], columns[name], shape, 0, values)
        found[name] = _array(signature.inputs[name], values, shape)
    return found


def _shape(value: Any) -> tuple[int, ...]:
    """The shape that the first value of each list has."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if len(shape) > _DEEPEST:
            raise invalid(f"Encountered list at unexpected level: {_DEEPEST}")
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _check_count(tensor: Tensor, shape: Sequence[int]) -> None:
    if math.prod(shape) > MOST_VALUES:
        raise invalid(f"Input {tensor.name} has more than {MOST_VALUES:,} values")


def _fill(tensor: Tensor, value: Any, shape: tuple[int, ...], level: int, values: list) -> None:
    """Append the values of nested lists, which must be of the shape."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value found at incorrect level: {level + 1} in the JSON DOM. Expected at "
                f"level: {len(shape)}"
            )
        values.append(_single(tensor, value))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
            f"{shape[level]}"
        )
    for element in value:
        _fill(tensor, element, shape, level + 1, values)


def _single(tensor: Tensor, value: Any) -> Any:
    kind = tensor.dtype.name
    if kind == "string":
        if isinstance(value, str):
            return utf8(value)
        if isinstance(value, dict):
            return decoded(value)
    elif kind in _FLOATS and isinstance(value, int | float) and not isinstance(value, bool):
        return _float(value, kind)
    elif kind in _INTEGERS and isinstance(value, int) and not isinstance(value, bool):
        low, high = _INTEGERS[kind]
        if low <= value <= high:
            return value
    elif kind == "bool" and isinstance(value, bool):
        return value
    if kind not in {"string", "bool", *_INTEGERS, *_FLOATS}:
        raise ServingError(
            "UNIMPLEMENTED", f"Conversion of JSON Value to type: {tensor.dtype_name}"
        )
    raise invalid(f"JSON Value: Type: {_type(value)} is not of expected type: {tensor.dtype_name}")


def _float(value: float, kind: str) -> float:
    name, digits = ("float", 24) if kind == "float32" else ("double", 53)
    largest = float(np.finfo(kind).max)
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        fits = abs(value) < 2**digits
    else:  # an integer of more bits is read as a number with a point
        fits = abs(value) <= largest or not (isinstance(value, int) or math.isfinite(value))
    if not fits:
        raise invalid(f"Cannot convert JSON value to {name} without loss of precision.")
    return float(value)


def utf8(text: str) -> bytes:
    """The bytes of a JSON string.

    Raises:
        ServingError: INVALID_ARGUMENT, half of a surrogate pair is in it.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None


def decoded(value: Mapping[str, Any]) -> bytes:
    """The bytes of `{"b64": …}`.

    Raises:
        ServingError: INVALID_ARGUMENT, another object, or no base64.
    """
    if not _is_base64(value):
        raise invalid("JSON Value: Object not formatted correctly for base64 data")
    text = value["b64"].strip()
    try:
        # Padding may be left out.
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and [*value] == ["b64"] and isinstance(value["b64"], str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _array(tensor: Tensor, values: Sequence, shape: tuple[int, ...]) -> np.ndarray:
    if tensor.is_string:
        flat = np.empty(len(values), object)
        flat[:] = values
        return flat.reshape(shape)
    return np.array(values, tensor.dtype.as_numpy_dtype).reshape(shape)


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _type(value: Any) -> str:
    """The kind of a JSON value, as RapidJSON calls it."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    kinds = {dict: "Object", list: "Array", str: "String"}
    return kinds.get(type(value), "Number")


# --- arrays to JSON -------------------------------------------------------------------------


def json_of_outputs(outputs: Mapping[str, np.ndarray], *, by_row: bool) -> dict[str, Any]:
    """The answer to a request to predict.

    Args:
        outputs: arrays by name; the name of a single one is left out.
        by_row: whether the request was by row.

    Returns:
        `{"predictions": […]}` by row, `{"outputs": …}` by column.

    Raises:
        ServingError: INVALID_ARGUMENT, the outputs have not one value a row each.
    """
    if by_row:
        rows = None
        for name, value in outputs.items():
            if value.ndim == 0:
                raise invalid(f"Tensor name: {name} has no shape information ")
            if rows is not None and len(value) != rows:
                raise invalid(
                    f"Tensor name: {name} has inconsistent batch size: {len(value)} expecting: "
                    f"{rows}"
                )
            rows = len(value)
    columns = {name: listed(name, value) for name, value in outputs.items()}
    if len(columns) == 1:
        (single,) = columns.values()
        return {"predictions" if by_row else "outputs": single}
    if not by_row:
        return {"outputs": columns}
    names = [*columns]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {"predictions": rows}


def size_of(outputs: Mapping[str, np.ndarray]) -> int:
    """Bytes that outputs have as JSON, about."""
    texts = [value for value in outputs.values() if value.dtype == object]
    values = sum(value.size for value in outputs.values())
    return _BYTES_OF_VALUE * values + sum(sum(map(len, text.ravel())) for text in texts)


def listed(name: str, value: np.ndarray) -> Any:
    """An output as JSON has it: nested lists, strings in base64 where the name ends in `_bytes`."""
    if value.dtype == object or value.dtype.kind in "SU":
        as_bytes = name.endswith(_BYTES_SUFFIX)

        def written(each: bytes) -> Any:
            if as_bytes:
                return {"b64": base64.b64encode(each).decode("ascii")}
            return each.decode("utf-8", "replace")

        return _nested([written(each) for each in value.ravel().tolist()], value.shape)
    kind = value.dtype.name
    if kind in ("float32", "float16"):
        # The shortest number that is read back as the same one; a double's digits are noise.
        return _nested([*map(float, value.ravel().astype(str).tolist())], value.shape)
    if kind in _FLOATS or kind in _INTEGERS or kind == "bool":
        return value.tolist()
    raise invalid(f"Failed to write JSON value for tensor type: {kind}")


def _nested(flat: list, shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    for size in reversed(shape[1:]):
        count = len(flat) // size if size else 0
        flat = [flat[start * size : (start + 1) * size] for start in range(count)]
    if len(flat) != shape[0]:  # a size of 0 somewhere
        return np.empty(shape).tolist()
    return flat


# --- protocol buffers -----------------------------------------------------------------------


def inputs_of_proto(signature: Signature, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Read the inputs of a `PredictRequest`.

    Args:
        signature: what is asked.
        given: name to `TensorProto`.

    Returns:
        Arrays by name.

    Raises:
        ServingError: INVALID_ARGUMENT, an input is missing, not known, or of another type or
            shape.
    """
    wanted, sent = {*signature.inputs}, {*given}
    if wanted != sent:
        missing = ",".join(sorted(wanted - sent))
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"Sent extra: {len(sent - wanted)} inputs. Missing but required: {{{missing}}}."
        )
    return {name: _of_proto(signature.inputs[name], given[name]) for name in signature.inputs}


def _of_proto(tensor: Tensor, proto: Any) -> np.ndarray:
    import tensorflow as tf

    if proto.dtype != tensor.dtype.as_datatype_enum:
        raise invalid(
            f"Expects input {tensor.name} to be {tensor.dtype_name} but "
            f"{_proto_type(proto.dtype)} is provided"
        )
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise invalid(f"Input {tensor.name} has no shape")
    if len(sizes) > _DEEPEST:
        raise invalid(f"Input {tensor.name} has more than {_DEEPEST} dimensions")
    _check_count(tensor, sizes)
    try:
        value = np.asarray(tf.make_ndarray(proto))
        if tensor.is_string:
            value = value.astype(object)
        if value.shape != tuple(sizes):
            raise ValueError
    except (ValueError, TypeError, IndexError, OverflowError):
        raise invalid(f"Input {tensor.name} has not as many values as its shape says") from None
    tensor.check(value)
    return value


def _proto_type(number: int) -> str:
    from tensorflow.core.framework import types_pb2

    try:
        return types_pb2.DataType.Name(number).removeprefix("DT_").lower()
    except ValueError:
        return "an unknown type"


def fill_proto(proto: Any, tensor: Tensor, value: np.ndarray) -> None:
    """Write an output into a `TensorProto`, in the fields that TF Serving fills."""
    proto.dtype = tensor.dtype.as_datatype_enum
    proto.tensor_shape.SetInParent()
    for size in value.shape:
        proto.tensor_shape.dim.add().size = size
    flat = value.ravel()
    if tensor.is_string:
        proto.string_val.extend(flat.tolist())
    elif (field := _FIELDS.get(tensor.dtype.name)) is not None:
        getattr(proto, field).extend(flat.tolist())
    elif value.dtype.itemsize == 2:  # half and bfloat16, by their bits
        proto.half_val.extend(flat.view(np.uint16).tolist())
    else:
        proto.tensor_content = value.tobytes()
