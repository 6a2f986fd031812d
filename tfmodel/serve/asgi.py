"""What every HTTP application of a server does alike: bodies, tokens, answers, errors."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from tfmodel.serve.errors import ServingError, invalid

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

_PATIENCE_WITH_BODIES = 4
_GZIP = 31  # of zlib: gzip's head and foot, nothing else


def check_token(scope: Mapping[str, Any], token: bytes | None) -> None:
    """Refuse a request without the token.

    Args:
        scope: ASGI's.
        token: what the header `authorization` must be; None: nothing is demanded.

    Raises:
        ServingError: UNAUTHENTICATED.
    """
    if token is None:
        return
    given = b"".join(value for name, value in scope["headers"] if name == b"authorization")
    if not hmac.compare_digest(given, token):
        raise ServingError("UNAUTHENTICATED", "Expected the token of this server.")


async def read_body(
    scope: Mapping[str, Any], receive: Receive, *, most: int, seconds: float
) -> bytes:
    """The whole body, if it is not too large and comes in time.

    One that is too large is still read for a while, and dropped: a client that sends sees no
    answer before it is through.

    Args:
        scope: ASGI's.
        receive: ASGI's.
        most: bytes.
        seconds: in which all of it must have come.

    Raises:
        ServingError: of status 413 or 408, or CANCELLED.
    """
    too_large = _too_large(most)
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > _PATIENCE_WITH_BODIES * most:
            raise too_large
    parts: list[bytes] = []
    size = 0
    deadline = time.monotonic() + seconds
    while True:
        try:
            left = max(0.001, deadline - time.monotonic())
            event = await asyncio.wait_for(receive(), left)
        except asyncio.TimeoutError:
            raise ServingError(
                "DEADLINE_EXCEEDED", "The body did not come in time.", http_status=408
            ) from None
        if event["type"] == "http.disconnect":
            raise ServingError("CANCELLED", "The client went away.")
        part = event.get("body", b"")
        size += len(part)
        if size <= most:
            parts.append(part)
        elif size > _PATIENCE_WITH_BODIES * most or not event.get("more_body"):
            raise too_large
        if not event.get("more_body"):
            return b"".join(parts)


def is_packed(scope: Mapping[str, Any]) -> bool:
    """Whether the body of a request is packed by gzip.

    Args:
        scope: ASGI's.

    Source: TF Serving's `net_http/server/internal/evhttp_request.cc`, which looks for the word in
    `Content-Encoding` and takes whatever else is packed as it is.
    """
    return any(name == b"content-encoding" and b"gzip" in value for name, value in scope["headers"])


def unpacked(body: bytes, *, most: int) -> bytes:
    """What a body was before it was packed by gzip.

    Args:
        body: as it came.
        most: bytes.

    Raises:
        ServingError: of status 413, or INVALID_ARGUMENT: no gzip, or not one whole.
    """
    reader = zlib.decompressobj(_GZIP)
    try:
        found = reader.decompress(body, most + 1)
    except zlib.error:
        raise invalid("Expected a body that is packed by gzip, as its header says.") from None
    if len(found) > most:
        raise _too_large(most)
    if not reader.eof or reader.unused_data:
        raise invalid("Expected a body that is packed by gzip, once and whole.")
    return found


def _too_large(most: int) -> ServingError:
    return ServingError(
        "INVALID_ARGUMENT", f"The body has more than {most:,} bytes.", http_status=413
    )


async def send_answer(
    send: Send, status: int, headers: Headers, body: bytes, *, seconds: float
) -> None:
    """Send an answer, to a client that reads it in time; its length is written here.

    Args:
        send: ASGI's.
        status: of HTTP.
        headers: without `content-length`.
        body: all of it.
        seconds: for the client to read.
    """
    written = [*headers, (b"content-length", b"%d" % len(body))]
    start = {"type": "http.response.start", "status": status, "headers": written}
    try:
        await send(start)
        await asyncio.wait_for(send({"type": "http.response.body", "body": body}), seconds)
    except (asyncio.TimeoutError, OSError):
        return  # the client does not read: uvicorn closes the connection


def error_answer(error: ServingError) -> tuple[int, str, bytes, list[tuple[bytes, bytes]]]:
    """Status, type and body of an error in TF Serving's form, and further headers."""
    headers = [(b"retry-after", b"1")] if error.passes else []
    if error.code == "UNAUTHENTICATED":
        headers.append((b"www-authenticate", b"Bearer"))
    if error.http_status in (408, 413):
        # What the client still sends is not waited for.
        headers.append((b"connection", b"close"))
    body = json.dumps({"error": error.message}).encode()
    return error.http_status, "application/json", body, headers
