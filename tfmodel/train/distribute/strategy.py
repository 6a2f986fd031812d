"""The strategy that a training runs under: one device, several of this host, or several hosts."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any, Literal

import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.run_folder import environment
from tfmodel.train.distribute.cluster import Cluster
from tfmodel.train.distribute.meeting import meet
from tfmodel.train.distribute.workers import require_same

_log = logging.getLogger(__name__)

_joined: dict[Cluster, tf.distribute.Strategy] = {}
_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,  # a network that breaks
    tf.errors.FailedPreconditionError,  # a worker that was started again
    tf.errors.UnavailableError,
)


def choose_strategy(
    devices: int | Literal["all"] = 1,
    *,
    facts: Mapping[str, Any] | None = None,
    timeout_seconds: float = 300.0,
) -> tf.distribute.Strategy:
    """The strategy for this machine, or for all workers that TF_CONFIG names.

    Call it before TensorFlow computes anything, and build and compile the model in its `scope()`.
    Where TF_CONFIG names several workers it returns when all of them are there; each uses all
    GPUs it sees.

    Args:
        devices: GPUs of this machine to train on, or `all`; without a GPU the processor is one
            device. With several workers leave it 1.
        facts: JSON-able, by name, equal in all workers: the settings of the training, say.
            Versions of packages are compared anyhow.
        timeout_seconds: how long to wait for the other workers.

    Returns:
        A strategy; TensorFlow's default one for one device.

    Raises:
        ConfigError: TF_CONFIG is malformed, workers differ, or there are fewer devices.
        TimeoutError: a worker did not come in time.
        RuntimeError: TensorFlow has computed something already.

    Example:
        >>> strategy = tm.distribute.choose_strategy("all")
        >>> with strategy.scope():
        ...     training = tm.TrainingModel(build())
        ...     training.compile(tm.adamw(2e-4), loss=tm.tasks.classify.loss())
        >>> training.fit(batches)
    """
    cluster = Cluster.from_environment()
    if cluster is None:
        return _of_this_host(devices)
    if devices != 1:
        raise ConfigError(
            "train.devices: expected 1 with several workers, of which each uses all GPUs it sees. "
            f"Received: {devices!r}. Hide GPUs with CUDA_VISIBLE_DEVICES."
        )
    names = ("python", "tfmodel", "tensorflow", "keras", "numpy")
    versions = {name: environment()[name] for name in names}
    gpus = len(tf.config.list_physical_devices("GPU"))
    facts = {**versions, "GPUs": gpus, **(facts or {})}
    if cluster in _joined:  # TensorFlow listens where the meeting was
        require_same(_joined[cluster], facts)
        return _joined[cluster]
    meet(cluster, facts, timeout_seconds=timeout_seconds)
    _log.info("worker %d of %d: all are there", cluster.rank + 1, len(cluster.addresses))
    try:
        _joined[cluster] = tf.distribute.MultiWorkerMirroredStrategy(_resolver(cluster))
        return _joined[cluster]
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise RuntimeError(
            "Expected the strategy to be chosen before TensorFlow computes anything. Received: a "
            "process where it has. Call choose_strategy() right after the imports."
        ) from None


def _resolver(cluster: Cluster) -> tf.distribute.cluster_resolver.ClusterResolver:
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.rank,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )


def _of_this_host(devices: int | str) -> tf.distribute.Strategy:
    if devices == 1:
        return tf.distribute.get_strategy()
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    there = tf.config.list_logical_devices(kind)
    count = len(there) if devices == "all" else devices
    if count > len(there):
        found = f"{len(there)} GPUs" if kind == "GPU" else "no GPU; the processor is one device"
        raise ConfigError(
            f"train.devices: expected no more devices than this machine has ({found}). Received: "
            f"{devices}. Set it to all, or leave it out."
        )
    if count == 1:
        return tf.distribute.get_strategy()
    return _mirrored(tuple(device.name for device in there[:count]))


@functools.lru_cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    # Sums of a second strategy of a process are taken for those of the first.
    return tf.distribute.MirroredStrategy(devices)


@contextmanager
def lost_worker_in_words():
    """Within it the loss of a worker is a `RuntimeError` that names it and says what to do."""
    try:
        yield
    except _LOST as error:
        cluster = Cluster.from_environment()
        if cluster is None or ("ollective" not in str(error) and "/task:" not in str(error)):
            raise
        # TensorFlow names tasks as who reports and as who is lost: it is not this one.
        named = [int(rank) for rank in re.findall(r"/task:(\d+)", str(error))]
        others = [rank for rank in [*named, *range(len(cluster.addresses))] if rank != cluster.rank]
        who = "Another worker"
        if len(set(others)) == 1 or (named and others[0] in named):
            rank, count = others[0], len(cluster.addresses)
            who = f"Worker {rank + 1} of {count} ({cluster.addresses[rank]})"
        raise RuntimeError(
            f"{who} ended or is no longer reached, and training cannot go on without it. Look at "
            "its messages for the reason; the same command in all workers continues from the last "
            "checkpoint."
        ) from error
