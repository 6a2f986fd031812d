"""The strategy that a training runs under: one device, several of this host, or several hosts."""

from __future__ import annotations

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

_log = logging.getLogger(__name__)

_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)


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
    meet(cluster, {**versions, "GPUs": gpus, **(facts or {})}, timeout_seconds=timeout_seconds)
    _log.info("worker %d of %d: all are there", cluster.rank + 1, len(cluster.addresses))
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(_resolver(cluster))
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
    return tf.distribute.MirroredStrategy([device.name for device in there[:count]])


@contextmanager
def lost_worker_in_words():
    """Within it the loss of a worker is a `RuntimeError` that names it and says what to do."""
    try:
        yield
    except _LOST as error:
        found = re.search(r"/task:(\d+)", str(error))
        if found is None and "ollective" not in str(error):
            raise
        cluster, who = Cluster.from_environment(), "Another worker"
        if found is not None and cluster is not None:
            rank = int(found[1])
            who = f"Worker {rank + 1} of {len(cluster.addresses)} ({cluster.addresses[rank]})"
        raise RuntimeError(
            f"{who} ended or is no longer reached, and training cannot go on without it. Look at "
            "its messages for the reason; the same command in all workers continues from the last "
            "checkpoint."
        ) from error
