"""Ask a server, this project's or TF Serving itself: deadlines, retries, many texts at once."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import random
import re
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.serve.errors import ServingError
from tfmodel.serve.transports import (
    Answer,
    OtherSignature,
    SignatureInfo,
    Target,
    VersionStatus,
    open_transport,
)

_T = TypeVar("_T")
_PASSING = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The answer to a text.

    Attributes:
        label: the best label; None of several labels a row, and of numbers.
        score: its probability; the number, of `regress`; None of several labels.
        labels: those that fit, of several labels a row; otherwise the best one alone.
        scores: the probability of every label, in the order of the model's `labels.txt`.
        text: what was asked.
        text_pair: likewise, of pairs.
        request_id: by which the server knows the request, where it has recorded it.
        row: the row of that request.
    """

    label: str | None
    score: float | None
    labels: tuple[str, ...]
    scores: tuple[float, ...]
    text: str = dataclasses.field(default="", repr=False)
    text_pair: str | None = dataclasses.field(default=None, repr=False)
    request_id: str | None = dataclasses.field(default=None, repr=False)
    row: int = dataclasses.field(default=0, repr=False)


@dataclasses.dataclass(frozen=True)
class Stored:
    """A correction that the server's database has for good.

    Attributes:
        feedback_id: what it is called, by which it can be deleted.
        is_new: whether the same was not there before.
        problem: why no training can use it; None where it can.
    """

    feedback_id: str
    is_new: bool
    problem: str | None


class Client:
    """A model on a server.

    Every request is one that may be sent twice, so one that met a server that was full, stopping or
    not there is sent again, after a pause that grows and is partly chance, until the deadline. One
    client serves many threads, over connections that stay open.

    Args:
        address: `http://HOST:8501` or `grpc://HOST:8500`; `https` and `grpcs` with TLS.
        model: its name.
        version: a version to ask; by default the server's choice.
        label: a label of a version, in place of `version`.
        token: what the server demands.
        certificate: file of the authority that vouches for the server; the system's by default.
        timeout_seconds: for an answer, all tries together.
        tries: of one request.
        batch_size: texts a request; `predict` sends more texts in several requests.
        connections: requests of one call to `predict` that are open at once.

    Raises:
        ConfigError: another address, numbers out of range, a token that no header can hold, or a
            file that cannot be read.

    Example:
        >>> with Client("http://localhost:8501", model="news") as client:
        ...     print(client.predict(["Shares fell sharply."])[0].label)
        business
    """

    def __init__(
        self,
        address: str,
        *,
        model: str = "model",
        version: int | None = None,
        label: str | None = None,
        token: str | None = None,
        certificate: str | Path | None = None,
        timeout_seconds: float = 30.0,
        tries: int = 5,
        batch_size: int = 32,
        connections: int = 4,
    ):
        if version is not None and label is not None:
            raise ConfigError("Expected a version or a label. Received: both.")
        least = {"tries": tries, "batch_size": batch_size, "connections": connections}
        for name, value in least.items():
            if value < 1:
                raise ConfigError(f"{name} must be 1 or more. Received: {value}.")
        if timeout_seconds <= 0:
            raise ConfigError(f"timeout_seconds must be above 0. Received: {timeout_seconds}.")
        self._target = Target(model, version, label)
        self._timeout_seconds = timeout_seconds
        self._tries = tries
        self._batch_size = batch_size
        self._connections = connections
        self._transport = open_transport(
            address,
            token=token,
            certificate=None if certificate is None else _read(certificate),
            connections=connections,
        )
        self._signatures: dict[str, SignatureInfo] | None = None
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            self._pool.shutdown()
        self._transport.close()

    def predict(
        self, texts: Sequence[str], text_pairs: Sequence[str] | None = None
    ) -> list[Prediction]:
        """Answer texts, with a model of labels or of numbers that this project has exported.

        Args:
            texts: n texts; texts of like length are sent together, several requests at once.
            text_pairs: n second texts, for a model of pairs.

        Returns:
            n answers, in the order of the texts.

        Raises:
            ConfigError: not a list of strings, not as many pairs as texts, or another model.
            ServingError: the server refuses, or does not answer in time.
        """
        columns = {"text": _strings(texts, "texts")}
        if text_pairs is not None:
            columns["text_pair"] = _strings(text_pairs, "text_pairs")
            if len(text_pairs) != len(texts):
                raise ConfigError(
                    "Expected as many text_pairs as texts. Received: "
                    f"{len(texts)} texts and {len(text_pairs)} text_pairs."
                )
        count = len(columns["text"])
        lengths = [sum(len(column[row]) for column in columns.values()) for row in range(count)]
        order = sorted(range(count), key=lengths.__getitem__)
        parts = [
            order[start : start + self._batch_size] for start in range(0, count, self._batch_size)
        ]
        deadline = time.monotonic() + self._timeout_seconds

        def answer(rows: list[int]) -> list[Prediction]:
            inputs = {name: [column[row] for row in rows] for name, column in columns.items()}
            outputs = self._ask(inputs, "serving_default", deadline)
            return [
                dataclasses.replace(
                    prediction,
                    **{name: column[number] for name, column in inputs.items()},
                    request_id=outputs.request_id,
                    row=number,
                )
                for number, prediction in enumerate(_predictions(outputs, len(rows)))
            ]

        answers: list[Any] = [None] * count
        found = map(answer, parts) if len(parts) < 2 else self._in_threads(answer, parts)
        for rows, predictions in zip(parts, found, strict=True):
            for row, prediction in zip(rows, predictions, strict=True):
                answers[row] = prediction
        return answers

    def ask(self, inputs: Mapping[str, Any], *, signature: str = "serving_default") -> Answer:
        """Ask any signature of any model.

        Args:
            inputs: name to values, nested lists or arrays; strings as `str` or `bytes`.
            signature: its name.

        Returns:
            Name to array of the signature's type; strings as `str`, those of an output whose name
            ends in `_bytes` as `bytes`. Its attribute `request_id` is for `feedback`.

        Raises:
            ConfigError: no such signature, other inputs than it takes, or values that are not of
                its types.
            ServingError: the server refuses, or does not answer in time.
        """
        return self._ask(inputs, signature, time.monotonic() + self._timeout_seconds)

    def feedback(
        self,
        about: Prediction | str | None = None,
        *,
        row: int | None = None,
        text: str | None = None,
        text_pair: str | None = None,
        label: str | None = None,
        labels: Sequence[str] | None = None,
        spans: Sequence[Mapping[str, Any]] | None = None,
        answer: str | None = None,
        start: int | None = None,
        score: float | None = None,
    ) -> Stored:
        """Say what the right answer is; sent again as often as it must be, and stored once.

        Args:
            about: the answer of `predict` that it corrects or confirms, or the `request_id` of an
                answer of `ask`; None: a text by itself.
            row: the row of the request, beside a `request_id`; a request of one row needs none.
            text: the text, where there is no `about`, or where the server may not have recorded it.
            text_pair: likewise.
            label: what is right, of `classify`.
            labels: of several labels a row; none: `[]`.
            spans: of `tag`: `start`, `end` (excluded, in characters of the text as it was sent) and
                `label` of each.
            answer: of `span`, a part of the context; none: `""`.
            start: its first character, where it stands there more than once.
            score: of `regress`; of `embed`, how alike `text` and `text_pair` are, without `about`.

        Returns:
            What the server has stored.

        Raises:
            ConfigError: none of these, or several; or nothing that it is about.
            ServingError: the server refuses it, or cannot store it in time.
        """
        right = {
            "label": label,
            "labels": None if labels is None else [*labels],
            "spans": None if spans is None else [dict(span) for span in spans],
            "answer": answer,
            "score": score,
        }
        right = {name: value for name, value in right.items() if value is not None}
        if len(right) != 1:
            raise ConfigError(
                "Expected one of label, labels, spans, answer and score. Received: "
                f"{' and '.join(right) or 'none'}."
            )
        if isinstance(about, Prediction):
            row, text, text_pair = about.row, about.text, about.text_pair
            about = about.request_id
        if about is None and text is None:
            raise ConfigError("Expected an answer that it is about, or a text. Received: neither.")
        given = {
            "request_id": about,
            "row": None if about is None else row,
            "text": text,
            "text_pair": text_pair,
            "start": start,
            "model": self._target.model,
            "feedback_id": uuid.uuid4().hex,
        }
        body = right | {name: value for name, value in given.items() if value is not None}
        deadline = time.monotonic() + self._timeout_seconds
        found = self._retried(lambda seconds: self._transport.correct(body, seconds), deadline)
        return Stored(found["feedback_id"], found["stored"], found.get("problem"))

    def signatures(self) -> dict[str, SignatureInfo]:
        """What can be asked, by name: inputs and outputs with types and shapes."""
        deadline = time.monotonic() + self._timeout_seconds
        return self._retried(
            lambda seconds: self._transport.signatures(self._target, seconds), deadline
        )

    def status(self) -> list[VersionStatus]:
        """The versions that the server knows, the highest first."""
        deadline = time.monotonic() + self._timeout_seconds
        return self._retried(
            lambda seconds: self._transport.status(self._target, seconds), deadline
        )

    def reload(self, config: Any, *, timeout_seconds: float | None = None) -> None:
        """Have the server serve what a config says; over gRPC alone.

        Args:
            config: a `ModelServerConfig`. It takes the place of the whole one before: models that
                it does not name are unloaded.
            timeout_seconds: for the server to load what is new; as for an answer by default.

        Raises:
            ConfigError: the address is not of gRPC.
            ServingError: the server refuses; FAILED_PRECONDITION where a label's version is not
                live, and no label was moved.
        """
        deadline = time.monotonic() + (timeout_seconds or self._timeout_seconds)
        self._retried(lambda seconds: self._transport.reload(config, seconds), deadline)

    # --- inside -----------------------------------------------------------------------------

    def _ask(self, inputs: Mapping[str, Any], signature: str, deadline: float) -> Answer:
        was_known = signature in (self._signatures or {})
        info = self._signature(signature, deadline)
        if {*inputs} != {*info.inputs} and was_known:
            info = self._signature(signature, deadline, anew=True)
        if {*inputs} != {*info.inputs}:
            raise ConfigError(
                f"The signature {signature} takes {', '.join(info.inputs)}. "
                f"Received: {', '.join(inputs) or 'nothing'}."
            )
        for _ in range(self._tries):
            arrays = {
                name: _array(name, inputs[name], info.inputs[name].dtype) for name in info.inputs
            }
            call = functools.partial(self._transport.predict, self._target, signature, info, arrays)
            try:
                return self._retried(call, deadline)
            except OtherSignature:  # a newer version has taken over
                info = self._signature(signature, deadline, anew=True)
        raise ServingError("INTERNAL", "The answers do not fit what the server says they are.")

    def _signature(self, name: str, deadline: float, *, anew: bool = False) -> SignatureInfo:
        """A signature; asked for once, and again where a newer version may have others."""
        known = self._signatures or {}
        if name not in known or anew:
            known = self._retried(
                lambda seconds: self._transport.signatures(self._target, seconds), deadline
            )
            self._signatures = known
        if name not in known:
            raise ConfigError(
                f"Expected one of the signatures {', '.join(known)}. Received: {name!r}."
            )
        return known[name]

    def _retried(self, call: Callable[[float], _T], deadline: float) -> _T:
        """The outcome of a call that may be made again, given the seconds that are left."""
        pause = _FIRST_PAUSE_SECONDS
        for left in reversed(range(self._tries)):
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                raise ServingError("DEADLINE_EXCEEDED", "The server did not answer in time.")
            try:
                return call(seconds)
            except ServingError as error:
                wait = random.uniform(pause / 2, pause)
                if not left or error.code not in _PASSING or wait >= deadline - time.monotonic():
                    raise
                time.sleep(wait)
                pause = min(4 * pause, _LONGEST_PAUSE_SECONDS)
        raise AssertionError("not reached")

    def _in_threads(self, call: Callable, parts: Sequence) -> list:
        with self._lock:
            if self._pool is None:
                self._pool = concurrent.futures.ThreadPoolExecutor(
                    self._connections, thread_name_prefix="client"
                )
        futures = [self._pool.submit(call, part) for part in parts]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()


def _predictions(outputs: Mapping[str, np.ndarray], rows: int) -> list[Prediction]:
    """Rows of what one of this project's models gives."""
    nothing = [()] * rows
    scores = [tuple(row) for row in outputs["scores"].tolist()] if "scores" in outputs else nothing
    if "labels" in outputs:
        named = [tuple(filter(None, row)) for row in outputs["labels"].tolist()]
        return [Prediction(None, None, *row) for row in zip(named, scores, strict=True)]
    if "score" not in outputs:
        raise ConfigError(
            "Expected a model that gives a label or a number for each text. Received: one that "
            f"gives {', '.join(outputs)}. Ask it with ask()."
        )
    numbers = outputs["score"].ravel().tolist()
    labels = outputs["label"].tolist() if "label" in outputs else [None] * rows
    return [
        Prediction(label, number, () if label is None else (label,), row)
        for label, number, row in zip(labels, numbers, scores, strict=True)
    ]


def _strings(values: Sequence[str], name: str) -> list[str]:
    if isinstance(values, str | bytes) or not all(isinstance(each, str) for each in values):
        raise ConfigError(
            f"Expected {name} to be a list of strings. Received: {type(values).__name__}. Put a "
            "text in a list: [text]."
        )
    return [*values]


def _array(name: str, value: Any, dtype: str) -> np.ndarray:
    """Values as the signature's type; strings as bytes."""
    try:
        if dtype != "string":
            return np.asarray(value, np.dtype(dtype))
        found = np.asarray(value, object)
        # Half of a surrogate pair becomes `?`, whatever answers.
        flat = [
            each.encode("utf-8", "replace") if isinstance(each, str) else each
            for each in found.ravel()
        ]
        if not all(isinstance(each, bytes) for each in flat):
            raise TypeError("values that are no strings")
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{name}: expected values of {dtype}. Received: {error}.") from None
    column = np.empty(len(flat), object)
    column[:] = flat
    return column.reshape(found.shape)


def _read(path: str | Path) -> bytes:
    """The certificates in a file, without what is written between them."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: expected a certificate. Received: {error.strerror}. Check the path."
        ) from None
    found = b"\n".join(_CERTIFICATE.findall(content))
    try:
        ssl.create_default_context(cadata=found.decode("ascii") or "none")
    except (ssl.SSLError, ValueError):
        raise ConfigError(
            f"{path}: expected a certificate in PEM. Received: another file. Convert it: "
            f"openssl x509 -inform DER -in {path}"
        ) from None
    return found
