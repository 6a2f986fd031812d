"""The workers that train together, as the environment variable TF_CONFIG names them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping

from tfmodel.config import ConfigError

_EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:23456", "10.0.0.2:23456"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers and which of them this process is.

    Attributes:
        addresses: `host:port` of each; the first is the chief, which writes and exports.
        rank: this process's place among them, from 0.
    """

    addresses: tuple[str, ...]
    rank: int

    @property
    def is_chief(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @property
    def port(self) -> int:
        """This worker's own port."""
        return _split(self.addresses[self.rank])[1]

    def address(self, rank: int) -> tuple[str, int]:
        """Host and port of a worker."""
        return _split(self.addresses[rank])

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Cluster | None:
        """Read TF_CONFIG.

        Returns:
            The workers; None where it is not set or names no more than one.

        Raises:
            ConfigError: it is not what TensorFlow expects.
        """
        text = environment.get("TF_CONFIG", "").strip()
        if not text:
            return None
        try:
            found = json.loads(text)
        except ValueError as error:
            raise _wrong(f"text that is no JSON ({error})") from None
        cluster = found.get("cluster") if isinstance(found, dict) else None
        if not isinstance(cluster, dict) or not cluster:
            raise _wrong('no "cluster" with its workers' if cluster is None else "another cluster")
        others = sorted(set(cluster) - {"chief", "worker"})
        if others:
            raise _wrong(f"tasks of the type {', '.join(others)}, which have no part here")
        names = [
            (kind, index, address)
            for kind in ("chief", "worker")
            for index, address in enumerate(_addresses(cluster, kind))
        ]
        task = found.get("task")
        if not isinstance(task, dict) or not {"type", "index"} <= set(task):
            raise _wrong('no "task" that says which of them this process is')
        mine = (task["type"], task["index"])
        ranks = [rank for rank, name in enumerate(names) if name[:2] == mine]
        # True == 1 in Python, and "1" is how a shell script passes an index.
        if not ranks or type(task["index"]) is not int:
            known = ", ".join(f"{kind} {index}" for kind, index, _ in names)
            raise _wrong(f"the task {mine[0]} {mine[1]!r}, where there are {known}")
        addresses = tuple(address for *_, address in names)
        if len(set(addresses)) < len(addresses):
            raise _wrong(f"one address twice: {', '.join(addresses)}")
        return cls(addresses, ranks[0]) if len(addresses) > 1 else None


def _addresses(cluster: Mapping, kind: str) -> list[str]:
    found = cluster.get(kind, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise _wrong(f'"{kind}": {found!r}, which is no list of addresses')
    for address in found:
        try:
            _split(address)
        except ValueError:
            raise _wrong(f"the address {address!r}, which is not host:port") from None
    return found


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not 0 < int(port) < 65536:
        raise ValueError(address)
    return host.strip("[]"), int(port)


def _wrong(received: str) -> ConfigError:
    return ConfigError(
        f"TF_CONFIG: expected the addresses of all workers and which of them this one is, such as "
        f"{_EXAMPLE}. Received: {received}. Set it in each worker, with an index of its own, or "
        "unset it to train on this machine alone."
    )
