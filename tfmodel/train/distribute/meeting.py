"""Before anything else the workers meet: all are there, and all are about to do the same.

TensorFlow's own start waits an hour for who does not come, and compares nothing. The meeting is
held at the chief's address before TensorFlow listens there.
"""

from __future__ import annotations

import errno
import json
import logging
import socket
import time
from collections.abc import Mapping
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.train.distribute.cluster import Cluster

_log = logging.getLogger(__name__)

_LARGEST_MESSAGE_BYTES = 2**20
_PATIENCE_SECONDS = 10.0
_BETWEEN_TRIES_SECONDS = 0.2
_GRACE_SECONDS = 2.0  # for those who come after the meeting has failed, to hear of it


def meet(cluster: Cluster, facts: Mapping[str, Any], *, timeout_seconds: float = 300.0) -> None:
    """Wait for all workers, and compare what they are about to do.

    Args:
        cluster: the workers.
        facts: JSON-able, by name; they must be equal in all workers.
        timeout_seconds: how long to wait for the others.

    Raises:
        TimeoutError: a worker did not come in time.
        ConfigError: facts differ, two workers have one index, or this worker's port is taken.
    """
    facts = json.loads(json.dumps(dict(facts)))
    deadline = time.monotonic() + timeout_seconds
    if cluster.is_chief:
        _receive_all(cluster, facts, deadline, timeout_seconds)
    else:
        _report(cluster, facts, deadline, timeout_seconds)


def _receive_all(cluster, facts, deadline, timeout_seconds) -> None:
    arrived: dict[int, socket.socket] = {}
    failure: Exception | None = None
    told = False
    with _listen(cluster) as listener:
        try:
            while len(arrived) < len(cluster.addresses) - 1:
                left = deadline - time.monotonic()
                if left <= 0:
                    failure = failure or _missing(cluster, arrived, timeout_seconds)
                    break
                listener.settimeout(min(left, 2.0))
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    if not told:
                        told = True
                        missing = ", ".join(_absent(cluster, arrived))
                        _log.info("waits for the other workers: %s", missing)
                    continue
                message = _read(connection)
                rank = message.get("rank")
                if rank not in range(1, len(cluster.addresses)):
                    connection.close()  # somebody who knocked at the wrong door
                    continue
                wrong = None
                if rank in arrived:
                    wrong = ConfigError(
                        f"TF_CONFIG: expected an index of its own in each worker. Received: two "
                        f"workers that say they are {cluster.addresses[rank]}."
                    )
                else:
                    wrong = _difference(cluster, facts, rank, message)
                if wrong is not None and failure is None:
                    failure = wrong
                    deadline = min(deadline, time.monotonic() + _GRACE_SECONDS)
                arrived[rank if rank not in arrived else -rank] = connection
        finally:
            answer = {"error": None if failure is None else str(failure)}
            answer["mistake"] = isinstance(failure, ConfigError)
            for connection in arrived.values():
                _write(connection, answer)
                connection.close()
    if failure is not None:
        raise failure


def _listen(cluster) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("", cluster.port))
    except OSError as error:
        listener.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise ConfigError(
            f"TF_CONFIG: expected a free port for {cluster.addresses[cluster.rank]}. Received: "
            f"{error.strerror}. Is another worker running with this index? Stop it, or choose "
            "another port in all workers."
        ) from None
    listener.listen(len(cluster.addresses) + 8)
    return listener


def _report(cluster, facts, deadline, timeout_seconds) -> None:
    chief, told = cluster.addresses[0], False
    message = {"rank": cluster.rank, "workers": list(cluster.addresses), "facts": facts}
    reason = "no answer"
    while time.monotonic() < deadline:
        try:
            # The chief answers when all are there.
            with socket.create_connection(cluster.address(0), _PATIENCE_SECONDS) as connection:
                _write(connection, message)
                connection.settimeout(max(deadline - time.monotonic(), 0.1) + _PATIENCE_SECONDS)
                answer = _read(connection)
            if "error" in answer:
                break
            reason = "it hung up"  # killed while it waited, and perhaps started again
        except OSError as error:  # not there yet; in Kubernetes not even its name
            reason = error.strerror or str(error)
        if not told:
            told = True
            _log.info("waits for the chief, %s", chief)
        time.sleep(_BETWEEN_TRIES_SECONDS)
    else:
        raise TimeoutError(
            f"Expected the chief, {chief}, within {timeout_seconds:.0f} s. Received: {reason}. Is "
            "it started, with the same TF_CONFIG but for the index, and is its port open to here?"
        )
    if answer["error"] is not None:
        raise (ConfigError if answer.get("mistake") else TimeoutError)(answer["error"])


def _difference(cluster, facts, rank, message) -> ConfigError | None:
    mine = {"TF_CONFIG's cluster": list(cluster.addresses), **facts}
    theirs = {"TF_CONFIG's cluster": message.get("workers"), **message.get("facts", {})}
    found = [
        f"{name} is {_short(mine.get(name))} on {cluster.addresses[0]} and "
        f"{_short(theirs.get(name))} on {cluster.addresses[rank]}"
        for name in {**mine, **theirs}
        if mine.get(name) != theirs.get(name)
    ]
    if not found:
        return None
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ConfigError(
        "Expected workers with the same config, encoder and versions of packages. Received: "
        f"{'; '.join(found[:5])}{more}. Start all with the same ones."
    )


def _short(value: Any) -> str:
    text = "not there" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _absent(cluster, arrived) -> list[str]:
    return [
        address
        for rank, address in enumerate(cluster.addresses)
        if rank not in arrived and rank != cluster.rank
    ]


def _missing(cluster, arrived, timeout_seconds) -> TimeoutError:
    return TimeoutError(
        f"Expected all {len(cluster.addresses)} workers within {timeout_seconds:.0f} s. Received: "
        f"nothing of {', '.join(_absent(cluster, arrived))}. Are they started, with the same "
        f"TF_CONFIG but for the index, and do they reach {cluster.addresses[0]}?"
    )


def _read(connection: socket.socket) -> dict:
    """A message; empty where it is none."""
    if connection.gettimeout() is None:
        connection.settimeout(_PATIENCE_SECONDS)
    text = b""
    try:
        while not text.endswith(b"\n") and len(text) <= _LARGEST_MESSAGE_BYTES:
            more = connection.recv(65536)
            if not more:
                break
            text += more
        message = json.loads(text)
    except (OSError, ValueError):
        return {}
    return message if isinstance(message, dict) else {}


def _write(connection: socket.socket, message: dict) -> None:
    try:
        connection.sendall(json.dumps(message).encode() + b"\n")
    except OSError as error:
        _log.debug("a worker went away: %s", error)
