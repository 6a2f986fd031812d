"""Every file of a kit, read back and looked at before the kit appears.

TF Serving's configs by their definitions, the others by what a kit promises of them. Where the
extra `kit` is installed, the validators that are kept for these formats look at them, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tfmodel.config import ConfigError
from tfmodel.export.linting.warmup_records import WARMUP_FILE
from tfmodel.serve.batching_file import BATCHING_FILE
from tfmodel.serve.kit import protos, validators
from tfmodel.serve.kit.batching import Batching
from tfmodel.serve.kit.configs import LABEL, MODELS_FOLDER, server_arguments
from tfmodel.serve.kit.dashboard import SERIES
from tfmodel.serve.kit.manifest_checks import NAME, compose_problems, kubernetes_problems
from tfmodel.serve.kit.queries import query_problems
from tfmodel.serve.kit.rendering import TEMPLATES

_CONFIGS = ("models.config", "batching.config", "monitoring.config")
_SCRAPED = ("prometheus/prometheus.yml", "prometheus/kubernetes.yml")


def check_kit(folder: Path, *, sizes: Mapping[str, Batching]) -> None:
    """Look at every file of a kit.

    Args:
        folder: the kit.
        sizes: the batches of each model, by its name.

    Raises:
        RuntimeError: something is not as it must be; it names file and fault.
    """
    found = [
        f"{file}: {problem}"
        for look in (_files, _configs, _warmups, _yaml_files, _dashboard)
        for file, problem in look(folder, sizes)
    ]
    # They want files that can be read.
    found += [] if found else [f"{file}: {words}" for file, words in validators.problems(folder)]
    if found:
        raise RuntimeError(
            f"{len(found)} faults in the files of the kit, which is not written: {'; '.join(found)}"
        )


Problems = Iterator[tuple[str, str]]


def _files(folder: Path, sizes: Mapping[str, Batching]) -> Problems:
    wanted = [*TEMPLATES, *(f"config/{name}" for name in _CONFIGS), "measured.json"]
    for name in (*wanted, "grafana/dashboards/serving.json"):
        if not (folder / name).is_file():
            yield name, "it is missing"
        elif "\r" in (folder / name).read_text("utf-8"):
            yield name, "it has carriage returns"


# --- TF Serving's own -----------------------------------------------------------------------


def _configs(folder: Path, sizes: Mapping[str, Batching]) -> Problems:
    yield from _of(folder, "config/models.config", "ModelServerConfig", _models_problems, sizes)
    yield from _of(
        folder, "config/monitoring.config", "MonitoringConfig", _monitoring_problems, sizes
    )
    yield from _of(folder, "config/batching.config", "BatchingParameters", _server_problems, sizes)
    for path in sorted((folder / "models").glob(f"*/*/{BATCHING_FILE}")):
        name = str(path.relative_to(folder))
        yield from _of(folder, name, "BatchingParameters", _batching_problems, sizes)


def _of(
    folder: Path,
    name: str,
    message: str,
    look: Callable[[Any, Path, Mapping[str, Batching]], Iterator[str]],
    sizes: Mapping[str, Batching],
) -> Problems:
    path = folder / name
    try:
        read = protos.read(message, path.read_text("utf-8"), where=name)
    except (ConfigError, OSError) as error:
        yield name, str(error)
        return
    for problem in look(read, path, sizes):
        yield name, problem


def _models_problems(config: Any, path: Path, sizes: Mapping[str, Batching]) -> Iterator[str]:
    entries = config.model_config_list.config
    if sorted(entry.name for entry in entries) != sorted(sizes):
        yield f"it has other models than {', '.join(sizes)}"
    for entry in entries:
        served = [*entry.model_version_policy.specific.versions]
        if dict(entry.version_labels) != {LABEL: served[-1] if served else None}:
            yield f"{entry.name}: the label {LABEL} is not on its version"
        base = path.parents[1] / "models" / Path(entry.base_path).name
        if entry.base_path != f"{MODELS_FOLDER}/{entry.name}" or entry.model_platform != (
            "tensorflow"
        ):
            yield f"{entry.name}: its base path or platform is another"
        for version in served:
            for file in ("saved_model.pb", BATCHING_FILE):
                if not (base / str(version) / file).is_file():
                    yield f"{entry.name}: version {version} has no {file}"


def _monitoring_problems(config: Any, path: Path, sizes: object) -> Iterator[str]:
    for name in _SCRAPED:
        prometheus = yaml.safe_load((path.parents[1] / name).read_text("utf-8"))
        asked = prometheus["scrape_configs"][0]["metrics_path"]
        if not config.prometheus_config.enable or config.prometheus_config.path != asked:
            yield f"the metrics are not at {asked}, where Prometheus asks by {name}"


def _server_problems(config: Any, path: Path, sizes: object) -> Iterator[str]:
    ignored = {field.name for field, _ in config.ListFields()} - {*protos.THREAD_FIELDS}
    if ignored:
        yield f"{', '.join(sorted(ignored))} is read of a model's file, not of this one"
    if config.num_batch_threads.value < 1:
        yield "it has no num_batch_threads"


def _batching_problems(config: Any, path: Path, sizes: Mapping[str, Batching]) -> Iterator[str]:
    allowed = [*config.allowed_batch_sizes]
    if allowed != sorted({*allowed}) or not allowed or allowed[0] < 1:
        yield f"allowed_batch_sizes {allowed} do not ascend"
    elif allowed[-1] != config.max_batch_size.value:
        yield "the last of allowed_batch_sizes is not max_batch_size"
    if {field.name for field, _ in config.ListFields()} & {*protos.THREAD_FIELDS}:
        yield "threads are read of the server's file, not of this one"
    if config.pad_variable_length_inputs:
        yield "pad_variable_length_inputs pads with values that are read as tokens"
    if allowed != [*sizes[path.parents[1].name].allowed_batch_sizes]:
        yield "its sizes are not those that were chosen"


def _warmups(folder: Path, sizes: Mapping[str, Batching]) -> Problems:
    for name, batching in sizes.items():
        for version in sorted((folder / "models" / name).iterdir()):
            file = str((version / WARMUP_FILE).relative_to(folder))
            asked: dict[str, set[int]] = {}
            for signature, rows in _asked(version / WARMUP_FILE):
                asked.setdefault(signature, set()).add(rows)
            if "serving_default" not in asked:
                yield file, "it has no request for serving_default"
            for signature, rows in asked.items():
                if missing := {*batching.allowed_batch_sizes} - rows:
                    yield file, f"{signature}: no request of {sorted(missing)} rows"


def _asked(path: Path) -> Iterator[tuple[str, int]]:
    """Signature and rows of each warm-up request."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    if not path.is_file():
        return
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        columns = [each.tensor_shape.dim[0].size for each in request.inputs.values()]
        yield request.model_spec.signature_name, min(columns)


# --- YAML and JSON --------------------------------------------------------------------------


def _yaml_files(folder: Path, sizes: Mapping[str, Batching]) -> Problems:
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*.y*ml")):
        name = str(path.relative_to(folder))
        try:
            found[name] = yaml.safe_load(path.read_text("utf-8"))
        except yaml.YAMLError as error:
            yield name, str(error)
    if {*found} < {name for name in TEMPLATES if Path(name).suffix in (".yaml", ".yml")}:
        return
    for problem in compose_problems(found["compose.yaml"], folder):
        yield "compose.yaml", problem
    manifests = {name: each for name, each in found.items() if name.startswith("kubernetes/")}
    yield from kubernetes_problems(manifests, folder)
    cores = found["compose.yaml"]["services"]["serving"]["deploy"]["resources"]["limits"]["cpus"]
    wanted = server_arguments(int(cores))
    container = found["kubernetes/deployment.yaml"]["spec"]["template"]["spec"]["containers"][0]
    for name, given in (
        ("compose.yaml", found["compose.yaml"]["services"]["serving"]["command"]),
        ("kubernetes/deployment.yaml", container["args"]),
    ):
        if given != wanted:
            yield name, "the server is started with other arguments than was meant"
    for name in _SCRAPED:
        if [job["job_name"] for job in found[name]["scrape_configs"]] != [NAME]:
            yield name, f"its job is not {NAME}, for which alerts and dashboard ask"
    for group in found["prometheus/rules.yml"]["groups"]:
        for rule in group["rules"]:
            if {*rule} - {"alert", "expr", "for", "labels", "annotations"}:
                yield "prometheus/rules.yml", f"{rule.get('alert')}: a key that is not known"
            for problem in query_problems(rule["expr"], SERIES):
                yield "prometheus/rules.yml", f"{rule['alert']}: {problem}"


def _dashboard(folder: Path, sizes: Mapping[str, Batching]) -> Problems:
    name = "grafana/dashboards/serving.json"
    content = json.loads((folder / name).read_text("utf-8"))
    sources = yaml.safe_load(
        (folder / "grafana/provisioning/datasources/prometheus.yaml").read_text("utf-8")
    )
    known = {(source["type"], source["uid"]) for source in sources["datasources"]}
    variables = {variable["name"] for variable in content["templating"]["list"]}
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in content["panels"]]
    if len({*ids}) != len(ids):
        yield name, "two panels have one id"
    for panel in content["panels"]:
        title, place = panel["title"], panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + row)
            for column in range(place["w"])
            for row in range(place["h"])
        }
        if cells & taken or place["x"] + place["w"] > 24:
            yield name, f"{title}: it lies on another panel, or over the edge"
        taken |= cells
        for target in panel["targets"]:
            source = target["datasource"]
            if (source["type"], source["uid"]) not in known:
                yield name, f"{title}: its data source is not provisioned"
            for problem in query_problems(target["expr"], SERIES, variables=variables):
                yield name, f"{title}: {problem}"
