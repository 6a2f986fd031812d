"""TensorFlow as a server needs it: without Keras, and of tensorflow_text the operations alone."""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def import_tensorflow() -> ModuleType:
    """Import TensorFlow, where nobody has done so yet without Keras.

    `import tensorflow` imports Keras at its end, to have its optimizers known where SavedModels of
    Keras are loaded as objects, and goes on without where it cannot; Keras brings matplotlib,
    scikit-learn and pandas along. Together they are near half of the time. `tf.keras` and
    `import keras` work as ever afterwards: they import it then.

    Its C++ code warns of each request that an operation refuses, on standard error and with the
    text. Unless the environment says otherwise it does so no more; where somebody has imported it
    before, nobody can have it stop.

    Returns:
        The module `tensorflow`.
    """
    if {"tensorflow", "keras"} & {*sys.modules}:
        import tensorflow
    else:
        with _without("keras"), _errors_alone():
            import tensorflow
    return tensorflow


@functools.cache
def load_text_operations() -> None:
    """Register tensorflow_text's operations, without its Python code, which imports Keras.

    Raises:
        ImportError: it is not installed.
    """
    tf = import_tensorflow()
    if "tensorflow_text" in sys.modules:
        return
    spec = importlib.util.find_spec("tensorflow_text")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("tensorflow_text is not installed")
    for library in sorted(Path(spec.submodule_search_locations[0]).glob("python/ops/*.so")):
        tf.load_library(str(library))


@contextlib.contextmanager
def _errors_alone() -> Iterator[None]:
    """Have TensorFlow read, as it is loaded, that it is to log errors alone.

    Afterwards the environment is as it was: processes that are started later choose for themselves.
    """
    if _LOG_LEVEL in os.environ:
        yield
        return
    os.environ[_LOG_LEVEL] = "2"
    try:
        yield
    finally:
        os.environ.pop(_LOG_LEVEL, None)


@contextlib.contextmanager
def _without(package: str) -> Iterator[None]:
    """Have this thread's imports of a package fail as if it could not be imported."""
    refusing = _Refusing(package)
    sys.meta_path.insert(0, refusing)
    try:
        yield
    finally:
        sys.meta_path.remove(refusing)


class _Refusing:
    """Finds a package as it is, so that one can ask where it lies, but does not load it."""

    def __init__(self, package: str):
        self._package = package
        self._thread = threading.get_ident()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._package or threading.get_ident() != self._thread:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = self
        return spec

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        raise ImportError(f"{self._package} is imported when it is needed")
