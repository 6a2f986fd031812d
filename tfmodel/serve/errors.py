"""What a server says when it does not answer: TF Serving's codes, in HTTP and in gRPC."""

from __future__ import annotations

import re
from typing import Any

HTTP_STATUS = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
"""Code to HTTP status.

Source: TF Serving's `ToHTTPStatusCode` in `model_servers/http_server.cc`.
"""

CODE_OF_STATUS = {status: code for code, status in reversed(HTTP_STATUS.items())} | {
    400: "INVALID_ARGUMENT",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    500: "INTERNAL",
    502: "UNAVAILABLE",
}
"""HTTP status to code, as a client reads it."""

_PATH = re.compile(r"(?:[\w.+@~-]*/){2,}[\w.+@~-]*")
_MOST_CHARACTERS = 500


class ServingError(Exception):
    """A request that is not answered, or a version that is not served.

    Attributes:
        code: of gRPC, such as `INVALID_ARGUMENT`.
        message: what the client is told: no text, path or stack.
        http_status: of the answer over HTTP.
        passes: whether the same request may be answered a moment later.
    """

    def __init__(self, code: str, message: str, *, http_status: int | None = None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.http_status = HTTP_STATUS[code] if http_status is None else http_status
        self.passes = self.http_status in (429, 503)


def invalid(message: str) -> ServingError:
    """A mistake of the client's."""
    return ServingError("INVALID_ARGUMENT", message)


def of_tensorflow(error: Any) -> ServingError:
    """What a client is told of an error of TensorFlow's, whose own words may hold its texts.

    Args:
        error: a `tf.errors.OpError`.
    """
    from tensorflow.core.protobuf import error_codes_pb2

    name = error_codes_pb2.Code.Name(error.error_code)
    code = name if name in HTTP_STATUS else "INTERNAL"
    return ServingError(code, f"The model failed on the request ({type(error).__name__}).")


def without_paths(words: str) -> str:
    """The words with `…` for whatever looks like a path, and not too many of them."""
    shown = _PATH.sub("…", " ".join(words.split()))
    return shown if len(shown) <= _MOST_CHARACTERS else shown[:_MOST_CHARACTERS] + "…"
