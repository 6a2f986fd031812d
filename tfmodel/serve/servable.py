"""A SavedModel version in memory, asked as TF Serving asks it: a session, tensors by name."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel.serve.batching_file import VersionBatching
from tfmodel.serve.errors import ServingError, invalid, of_tensorflow
from tfmodel.serve.tensorflow_core import import_tensorflow, load_text_operations

DEFAULT_SIGNATURE = "serving_default"
PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
INITIALIZER = "__saved_model_init_op"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output of a signature.

    Attributes:
        name: in the signature.
        dtype: a `tf.DType`.
        shape: sizes, None where any is right; None where nothing is known.
    """

    name: str
    dtype: Any
    shape: tuple[int | None, ...] | None

    @property
    def dtype_name(self) -> str:
        """As TF Serving calls it: `string`, `int32`, `float`, `half`."""
        names = {"float32": "float", "float64": "double", "float16": "half"}
        return names.get(self.dtype.name, self.dtype.name)

    @property
    def is_string(self) -> bool:
        """Whether its values are bytes."""
        return self.dtype.name == "string"

    def check(self, value: np.ndarray) -> None:
        """Raise INVALID_ARGUMENT where a value is of another shape."""
        if self.shape is None:
            return
        same = len(self.shape) == value.ndim and all(
            size is None or size == given
            for size, given in zip(self.shape, value.shape, strict=True)
        )
        if not same:
            wanted = ",".join("?" if size is None else str(size) for size in self.shape)
            given = ",".join(map(str, value.shape))
            raise invalid(
                f"Input {self.name} is expected to have the shape [{wanted}], but got [{given}]"
            )


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a client can ask for.

    Attributes:
        name: such as `serving_default`.
        method: of TF Serving's three.
        inputs: by name, in the order of the names.
        outputs: likewise.
    """

    name: str
    method: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    @property
    def is_batchable(self) -> bool:
        """Whether rows of several requests may be computed as one."""
        inputs = [tensor.shape for tensor in self.inputs.values()]
        outputs = [tensor.shape for tensor in self.outputs.values()]
        # An output as wide as the longest row would differ with the company of a request.
        return all(shape and shape[0] is None for shape in [*inputs, *outputs]) and all(
            None not in shape[1:] for shape in outputs
        )


class Servable:
    """A loaded SavedModel.

    Args:
        folder: the version folder.
        batching: what it says of its batches.

    Raises:
        ServingError: it cannot be loaded; the message names no path.
    """

    def __init__(self, folder: Path, *, batching: VersionBatching | None = None):
        self.batching = batching or VersionBatching()
        tf = import_tensorflow()
        load_text_operations()
        self.signatures: dict[str, Signature] = {}
        self.signature_defs: dict[str, Any] = {}
        self._calls: dict[str, Callable] = {}
        self._lock = threading.Lock()
        self._errors = tf.errors.OpError
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with self._session.graph.as_default():
                loaded = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(folder))
        except Exception as error:  # TensorFlow reports damage with errors of any type
            self._session.close()
            code = of_tensorflow(error).code if isinstance(error, self._errors) else "UNKNOWN"
            raise ServingError(
                code,
                f"It cannot be loaded by TensorFlow {tf.__version__} ({type(error).__name__}).",
            ) from error
        for name, definition in sorted(loaded.signature_def.items()):
            self.signature_defs[name] = definition
            if name != INITIALIZER:
                self.signatures[name] = _signature(name, definition)

    def signature(self, name: str) -> Signature:
        """A signature by name.

        Raises:
            ServingError: INVALID_ARGUMENT, there is none of this name.
        """
        found = self.signatures.get(name or DEFAULT_SIGNATURE)
        if found is None:
            known = ", ".join(self.signatures) or "none"
            raise invalid(f"Serving signature name not found in signature def. It has: {known}")
        return found

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute the outputs of a signature; several threads may.

        Args:
            signature: its name.
            inputs: every input; strings as arrays of bytes objects.

        Returns:
            Every output.

        Raises:
            ServingError: the graph refuses the inputs.
        """
        definition = self.signature_defs[signature]
        call = self._calls.get(signature) or self._make_call(signature)
        try:
            found = call(*(inputs[name] for name in sorted(definition.inputs)))
        except self._errors as error:
            raise of_tensorflow(error) from error
        names = sorted(definition.outputs)
        return {name: np.asarray(value) for name, value in zip(names, found, strict=True)}

    def close(self) -> None:
        """Give the memory back; nobody may be asking."""
        self._calls.clear()
        self._session.close()

    def _make_call(self, signature: str) -> Callable:
        definition = self.signature_defs[signature]
        graph = self._session.graph
        with self._lock:
            fetched, fed = (
                [graph.get_tensor_by_name(tensors[name].name) for name in sorted(tensors)]
                for tensors in (definition.outputs, definition.inputs)
            )
            self._calls[signature] = self._session.make_callable(fetched, feed_list=fed)
            return self._calls[signature]


def _signature(name: str, definition: Any) -> Signature:
    inputs, outputs = (
        {each: _tensor(each, tensors[each]) for each in sorted(tensors)}
        for tensors in (definition.inputs, definition.outputs)
    )
    return Signature(name, definition.method_name, inputs, outputs)


def _tensor(name: str, info: Any) -> Tensor:
    import tensorflow as tf

    shape = None
    if not info.tensor_shape.unknown_rank:
        shape = tuple(None if d.size < 0 else int(d.size) for d in info.tensor_shape.dim)
    return Tensor(name, tf.as_dtype(info.dtype), shape)
