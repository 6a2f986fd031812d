"""Requests to classify and regress: `tf.train.Example`s in, labels or numbers out.

Source: `servables/tensorflow/classifier.cc`, `regressor.cc` and `util.cc` of TF Serving.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np

from tfmodel.serve.errors import ServingError, invalid
from tfmodel.serve.servable import (
    CLASSIFY_METHOD,
    DEFAULT_SIGNATURE,
    REGRESS_METHOD,
    Servable,
    Signature,
)
from tfmodel.serve.tensors import decoded, utf8

_INPUT = "inputs"
_CLASSES, _SCORES, _NUMBERS = "classes", "scores", "outputs"


@dataclasses.dataclass(frozen=True)
class Method:
    """Classify or regress.

    Attributes:
        name: in addresses.
        word: in messages.
        signature_method: that a signature must have.
    """

    name: str
    word: str
    signature_method: str


CLASSIFY = Method("classify", "classification", CLASSIFY_METHOD)
REGRESS = Method("regress", "regression", REGRESS_METHOD)


def signature_of(servable: Servable, name: str, method: Method) -> Signature:
    """The signature to ask.

    Raises:
        ServingError: there is none of this name, or not for this method.
    """
    name = name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        known = ", ".join(servable.signatures)
        raise invalid(f"No signature was found with the name. There are: {known}")
    if signature.method != method.signature_method:
        raise invalid(
            f"Expected {method.word} signature method_name to be {method.signature_method}. Was: "
            f"{signature.method}"
        )
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    wanted = {_CLASSES, _SCORES} if method is CLASSIFY else {_NUMBERS}
    if _INPUT not in signature.inputs or not wanted & {*signature.outputs}:
        raise ServingError(
            "FAILED_PRECONDITION",
            f"Expected {method.word} signature inputs to contain {_INPUT} and outputs to contain "
            f"{' or '.join(sorted(wanted))}.",
        )
    return signature


def inputs_of(given: Any) -> dict[str, np.ndarray]:
    """Read an `Input` of TF Serving's.

    Raises:
        ServingError: INVALID_ARGUMENT, it is empty.
    """
    kind = given.WhichOneof("kind")
    listed = getattr(given, kind) if kind else None
    if listed is None or not listed.examples:
        raise invalid("Input is empty.")
    # Protocol buffers that stand one after the other are merged when they are read.
    context = listed.context.SerializeToString() if kind == "example_list_with_context" else b""
    column = np.empty(len(listed.examples), object)
    column[:] = [context + example.SerializeToString() for example in listed.examples]
    return {_INPUT: column}


def fill_classifications(
    result: Any, signature: Signature, outputs: Mapping[str, np.ndarray], rows: int
) -> None:
    """Write a `ClassificationResult`.

    Raises:
        ServingError: the outputs are not one row of classes or scores an example.
    """
    found = {name: outputs[name] for name in (_CLASSES, _SCORES) if name in outputs}
    for name, value in found.items():
        if value.ndim != 2:
            raise invalid("Expected Tensor shape: [batch_size num_classes]")
        kind = "DT_STRING" if name == _CLASSES else "DT_FLOAT"
        if signature.outputs[name].dtype.name != ("string" if name == _CLASSES else "float32"):
            raise invalid(f"Expected {name} Tensor of {kind}.")
        if len(value) != rows:
            raise invalid(f"Expected {name} output batch size of {rows}. Got: {len(value)}")
    widths = {value.shape[1] for value in found.values()}
    if len(widths) != 1:
        raise invalid("Tensors class and score should match in dim_size(1).")
    (width,) = widths
    for row in range(rows):
        classifications = result.classifications.add()
        for column in range(width):
            entry = classifications.classes.add()
            if _CLASSES in found:
                entry.label = found[_CLASSES][row, column].decode("utf-8", "replace")
            if _SCORES in found:
                entry.score = float(found[_SCORES][row, column])


def fill_regressions(
    result: Any, signature: Signature, outputs: Mapping[str, np.ndarray], rows: int
) -> None:
    """Write a `RegressionResult`.

    Raises:
        ServingError: the output is not one number an example.
    """
    value = outputs[_NUMBERS]
    if value.ndim not in (1, 2) or (value.ndim == 2 and value.shape[1] != 1):
        raise invalid("Expected output Tensor shape to be either [batch_size] or [batch_size, 1]")
    if len(value) != rows:
        raise invalid(f"Input batch size did not match output batch size: {rows} vs. {len(value)}")
    if signature.outputs[_NUMBERS].dtype.name != "float32":
        raise invalid("Expected output Tensor of DT_FLOAT.")
    for number in value.ravel().tolist():
        result.regressions.add().value = number


# --- JSON -----------------------------------------------------------------------------------


def input_of_json(request: Mapping[str, Any]) -> Any:
    """The `Input` of a JSON request: `examples`, and perhaps `context`.

    Raises:
        ServingError: INVALID_ARGUMENT, in TF Serving's words.
    """
    from tensorflow_serving.apis import input_pb2

    if "examples" not in request:
        raise invalid(
            "JSON Value: Object When method is classify, key 'examples' is expected and was not "
            "found"
        )
    rows = request["examples"]
    if not isinstance(rows, list):
        raise invalid("JSON Value: Object Expecting 'examples' value to be an list/array")
    if not rows:
        raise invalid("JSON Value: Object 'examples' value is an empty array")
    written = input_pb2.Input()
    listed = written.example_list
    if "context" in request:
        listed = written.example_list_with_context
        _fill_example(listed.context, request["context"])
    for row in rows:
        _fill_example(listed.examples.add(), row)
    return written


def _fill_example(example: Any, value: Any) -> None:
    if not isinstance(value, dict):
        raise invalid("Example must be JSON object")
    for number, (name, content) in enumerate(value.items()):
        utf8(name)
        feature = example.features.feature[name]
        for element in content if isinstance(content, list) else [content]:
            _add(feature, number, element)


def _add(feature: Any, number: int, value: Any) -> None:
    """Append a value to a feature, all of whose values must be of one kind."""
    if isinstance(value, str | dict):
        kind, own = "bytes_list", utf8(value) if isinstance(value, str) else decoded(value)
    elif isinstance(value, bool | int):
        kind, own = "int64_list", int(value)
        if not -(2**63) <= own < 2**63:
            raise invalid(f"Feature {number} has uint64 element. Only int64 is supported.")
    elif isinstance(value, float):
        kind, own = "float_list", value
        if math.isfinite(value) and abs(value) > float(np.finfo(np.float32).max):
            raise invalid("Cannot convert JSON value to float without loss of precision.")
    else:
        raise invalid(f"Feature {number} has element with unexpected JSON type")
    if feature.WhichOneof("kind") not in (None, kind):
        raise invalid(f"Unexpected element type in feature {number}")
    getattr(feature, kind).value.append(own)


def json_of_classifications(result: Any) -> dict[str, Any]:
    """The answer to a request to classify."""
    return {
        "results": [
            [[entry.label, _short(entry.score)] for entry in row.classes]
            for row in result.classifications
        ]
    }


def json_of_regressions(result: Any) -> dict[str, Any]:
    """The answer to a request to regress."""
    return {"results": [_short(each.value) for each in result.regressions]}


def _short(value: float) -> float:
    """The double with the fewest digits that is the same float32."""
    return float(str(np.float32(value)))


class Question:
    """Examples for one version, to classify or to regress.

    Args:
        version: a `Version` in use.
        name: the signature; empty: the default one.
        method: `CLASSIFY` or `REGRESS`.
        given: an `Input`.

    Raises:
        ServingError: the signature is not for this, or there are no examples.
    """

    def __init__(self, version: Any, name: str, method: Method, given: Any):
        self.signature = signature_of(version.servable, name, method)
        self._version = version
        self._method = method
        self._inputs = inputs_of(given)
        self.rows = len(self._inputs[_INPUT])

    def submit(self, deadline: float) -> Future:
        """Ask the version."""
        api = self._method.name.capitalize()
        return self._version.submit(self.signature, self._inputs, deadline=deadline, api=api)

    def result(self, outputs: Mapping[str, np.ndarray]) -> Any:
        """The `ClassificationResult` or `RegressionResult`."""
        from tensorflow_serving.apis import classification_pb2, regression_pb2

        if self._method is CLASSIFY:
            result = classification_pb2.ClassificationResult()
            fill_classifications(result, self.signature, outputs, self.rows)
        else:
            result = regression_pb2.RegressionResult()
            fill_regressions(result, self.signature, outputs, self.rows)
        return result

    def json(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The answer over REST."""
        if self._method is CLASSIFY:
            return json_of_classifications(self.result(outputs))
        return json_of_regressions(self.result(outputs))
