"""The files that TF Serving reads, and what it is started with."""

from __future__ import annotations

from collections.abc import Sequence

from tfmodel.serve.batching_file import BATCHING_FILE
from tfmodel.serve.kit import protos
from tfmodel.serve.kit.batching import Batching
from tfmodel.serve.kit.models import KitModel
from tfmodel.serve.metrics import METRICS_PATH

LABEL = "stable"
MODELS_FOLDER, CONFIG_FOLDER = "/models", "/config"  # in the container
REST_PORT, GRPC_PORT = 8501, 8500


def models_config(models: Sequence[KitModel]) -> str:
    """`models.config`: which versions are served, and their labels."""
    config = protos.new("ModelServerConfig")
    for model in models:
        entry = config.model_config_list.config.add(
            name=model.name,
            base_path=f"{MODELS_FOLDER}/{model.name}",
            model_platform="tensorflow",
        )
        entry.model_version_policy.specific.versions.append(model.version)
        entry.version_labels[LABEL] = model.version
    return protos.written(
        config,
        "What TF Serving serves; it reads this file again every few seconds.",
        f"A version is served because it stands here, not because it lies in {MODELS_FOLDER}: put",
        "the next one there, add its number beside this one's, and a label canary; once it is",
        f"loaded, move {LABEL} to it. A label moves only to a version that is loaded.",
    )


def batching_config(threads: int, reason: str) -> str:
    """`batching.config`: the threads that all models share."""
    config = protos.new("BatchingParameters")
    config.num_batch_threads.value = threads
    config.thread_pool_name.value = "batch_threads"
    return protos.written(
        config,
        f"With --enable_per_model_batching_parameters only this is read here: {BATCHING_FILE} in",
        "each version folder has the rest. A version without that file is not batched.",
        reason.replace("`", ""),
    )


def model_batching_config(name: str, batching: Batching) -> str:
    """`batching_params.pbtxt` of a version."""
    config = protos.new("BatchingParameters")
    config.max_batch_size.value = batching.max_batch_size
    config.batch_timeout_micros.value = batching.batch_timeout_micros
    config.max_enqueued_batches.value = batching.max_enqueued_batches
    config.allowed_batch_sizes.extend(batching.allowed_batch_sizes)
    return protos.written(
        config,
        f"Batches of {name}, by what was measured: README.md of the kit has the reasons.",
        "pad_variable_length_inputs stays off: TF Serving pads with the first value of a request,",
        "which in padding_mask is 1, so padding would be read as tokens.",
    )


def monitoring_config() -> str:
    """`monitoring.config`: metrics for Prometheus."""
    config = protos.new("MonitoringConfig")
    config.prometheus_config.enable = True
    config.prometheus_config.path = METRICS_PATH
    return protos.written(config)


def server_arguments(cores: int) -> list[str]:
    """The command line of `tensorflow_model_server`.

    Threads are given: the server would start as many as the machine has cores, not the container.
    """
    return [
        f"--port={GRPC_PORT}",
        f"--rest_api_port={REST_PORT}",
        "--rest_api_timeout_in_ms=30000",
        f"--model_config_file={CONFIG_FOLDER}/models.config",
        "--model_config_file_poll_wait_seconds=10",
        "--allow_version_labels_for_unavailable_models=true",
        "--enable_batching=true",
        f"--batching_parameters_file={CONFIG_FOLDER}/batching.config",
        "--enable_per_model_batching_parameters=true",
        f"--monitoring_config_file={CONFIG_FOLDER}/monitoring.config",
        f"--tensorflow_intra_op_parallelism={cores}",
        f"--tensorflow_inter_op_parallelism={cores}",
    ]
