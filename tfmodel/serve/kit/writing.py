"""A kit's folder: models, TF Serving's configs, compose, Kubernetes, monitoring, a smoke script."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.export.linting.warmup_records import WARMUP_FILE
from tfmodel.export.manifest import package_version
from tfmodel.export.places import make_folder
from tfmodel.run_folder import fingerprint, write_aside
from tfmodel.serve.batching_file import BATCHING_FILE
from tfmodel.serve.kit import checks, measuring, smoke
from tfmodel.serve.kit.batching import Batching, choose_batching, choose_threads
from tfmodel.serve.kit.configs import (
    batching_config,
    model_batching_config,
    models_config,
    monitoring_config,
    server_arguments,
)
from tfmodel.serve.kit.dashboard import dashboard
from tfmodel.serve.kit.figures import read_measured
from tfmodel.serve.kit.models import KitModel, find_models
from tfmodel.serve.kit.rendering import TEMPLATES, render
from tfmodel.serve.kit.resources import Resources, resources_of
from tfmodel.serve.kit.settings import KitSettings

_log = logging.getLogger(__name__)
MEASURED_FILE = "measured.json"
_FORMAT = 1
_SLOW = 4
"""Times what the largest batch takes: to wait for another one, for its own, and as much again."""
_LONGEST_WAIT_ALERT = 1_000_000
"""Microseconds: the buckets of TF Serving's queuing latency end at 1.09 s, and no quantile is more.

Source: `batching_session.cc`, `Buckets::Exponential(100, 1.2, 52)`."""


@dataclasses.dataclass(frozen=True)
class _Made:
    """A model in the kit, with what was found of it."""

    model: KitModel
    measured: dict[str, Any]
    batching: Batching
    checks: list[smoke.Check]


def write_kit(
    where: Sequence[str | Path] | str | Path,
    output: str | Path,
    *,
    names: Sequence[str] = (),
    texts: str | Path | None = None,
    measured: str | Path | None = None,
    settings: KitSettings | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write a folder with which TF Serving serves models in production.

    Args:
        where: run folders, folders of versions, or version folders; of each the newest version.
        output: the folder to write; nothing may be there.
        names: what to call each model; by default as its run, or its folder.
        texts: rows that the smoke script asks and the warm-up is made of, as of
            `smoke.read_texts`; by default the models' labels.
        measured: `measured.json` of another kit of the same models, in place of measuring.
        settings: see `kit_settings`.
        progress: told what is being done.

    Returns:
        `output`, which appears whole. `README.md` there says what each file is for.

    Raises:
        ConfigError: something stands at `output` or it cannot be written, a model is refused or is
            not there.
        RuntimeError: a model cannot be measured, or a file that was written fails its check.

    Example:
        >>> write_kit("runs/news", "kit")
        PosixPath('kit')
    """
    settings = settings or KitSettings()
    tell = progress or _log.info
    output = Path(output)
    if os.path.lexists(output):
        raise ConfigError(
            f"{output}: expected a path where nothing is. Received: one where something is. Choose "
            "another --output, or remove it."
        )
    where = [where] if isinstance(where, str | Path) else where
    models = find_models(where, names=names, target=settings.tf_serving)
    make_folder(output.absolute().parent)
    asked = {model.name: smoke.rows_to_ask(model.manifest, texts) for model in models}
    figures = {} if measured is None else _read_measured(measured, models)
    with write_aside(output) as folder:
        folder.mkdir()
        made = []
        for model in models:
            tell(f"{model.name}: version {model.version} of {model.folder.parent}")
            version = _copy(model, folder)
            found = figures.get(model.name)
            made.append(_make(model, version, asked[model.name], found, settings, tell))
        _write_files(folder, made, settings)
        _open_to_all(folder)
        tell("checking every file")
        checks.check_kit(folder, sizes={each.model.name: each.batching for each in made})
    return output


def _read_measured(path: str | Path, models: Sequence[KitModel]) -> dict[str, dict[str, Any]]:
    found = read_measured(path, [model.name for model in models])
    for model in models:
        if found[model.name]["weights"] != measuring.weights_of(model.folder):
            raise ConfigError(
                f"{path}: expected figures of {model.folder}. Received: those of another model "
                f"that is called {model.name} too. Leave out --measured to measure here."
            )
    return found


def _copy(model: KitModel, folder: Path) -> Path:
    version = folder / "models" / model.name / str(model.version)
    version.parent.mkdir(parents=True)
    # What stands there otherwise (a batching file of an older kit) is made anew.
    ignore = shutil.ignore_patterns(BATCHING_FILE)
    shutil.copytree(model.folder, version, ignore=ignore, copy_function=shutil.copyfile)
    _open_to_all(version)
    return version


def _make(
    model: KitModel,
    version: Path,
    asked: measuring.Columns,
    figures: dict[str, Any] | None,
    settings: KitSettings,
    tell: Callable[[str], None],
) -> _Made:
    rows, sizes, source = {}, None, ""
    if figures is None:
        real = measuring.rows_of_run(model.run, model.manifest)
        rows, source = real or measuring.made_up_rows(asked, model.manifest)
        tell(f"{model.name}: measuring with {source}, about {settings.seconds:g} s and the load")
    else:
        # Threads are of all models together, and change nothing of the sizes.
        sizes = _batching(figures, settings, threads=1).allowed_batch_sizes
        tell(f"{model.name}: warming and asking it")
    answer = measuring.measure(
        version, model.manifest, settings, name=model.name, rows=rows, asked=asked, sizes=sizes
    )
    if figures is None:
        figures = {
            "version": model.version,
            "weights": measuring.weights_of(version),
            "rows": source,
            "cores": settings.own_cores,
            **answer["measured"],
        }
    return _Made(
        model,
        figures,
        _batching(figures, settings, threads=1),
        smoke.checks_of(model, asked, answer["answers"], answer["together"], answer["count"]),
    )


def _batching(figures: Mapping[str, Any], settings: KitSettings, *, threads: int) -> Batching:
    return choose_batching(
        figures, latency_ms=settings.latency_ms, queue_ms=settings.queue_ms, threads=threads
    )


# --- files ----------------------------------------------------------------------------------


def _write_files(folder: Path, made: list[_Made], settings: KitSettings) -> None:
    threads, reason = choose_threads([each.measured for each in made])
    for number, each in enumerate(made):
        batching = _batching(each.measured, settings, threads=threads)
        made[number] = dataclasses.replace(each, batching=batching)
        version = folder / "models" / each.model.name / str(each.model.version)
        (version / BATCHING_FILE).write_text(model_batching_config(each.model.name, batching))
    configs = {
        "models.config": models_config([each.model for each in made]),
        "batching.config": batching_config(threads, reason),
        "monitoring.config": monitoring_config(),
    }
    cores = max(int(each.measured["cores"]) for each in made)
    resources = resources_of([each.measured for each in made], cores=cores)
    view = {
        "arguments": server_arguments(cores),
        "configs": configs,
        "models": [_view(each, settings) for each in made],
        "resources": resources,
        "settings": settings,
        "tag": _tag(folder, made, configs, settings),
        "threads": threads,
        "threads_reason": reason,
        "tfmodel_version": package_version(),
        "queue_alert_microseconds": min(int(settings.queue_ms * 1000 / 2), _LONGEST_WAIT_ALERT),
    }
    for name, text in configs.items():
        _put(folder / "config" / name, text)
    for name in TEMPLATES:
        _put(folder / name, render(name, view))
    _put(folder / "grafana/dashboards/serving.json", _json(dashboard()))
    _put(folder / MEASURED_FILE, _json(_measured(made, resources, threads, reason, settings)))


def _view(each: _Made, settings: KitSettings) -> dict[str, Any]:
    """What templates are told of a model."""
    p99 = next(
        entry["p99_ms"]
        for entry in each.measured["batches"]
        if entry["rows"] == each.batching.max_batch_size
    )
    slow_ms = max(settings.latency_ms, _SLOW * p99)
    return {
        "name": each.model.name,
        "version": each.model.version,
        "task": each.model.manifest.task,
        "has_pairs": each.model.manifest.has_pairs,
        "is_compared": each.model.is_compared,
        "folder": each.model.folder,
        "measured": each.measured,
        "batching": each.batching,
        "checks": each.checks,
        "slow_ms": round(slow_ms, 1),
        "slow_microseconds": int(1000 * slow_ms),
    }


def _measured(
    made: Sequence[_Made],
    resources: Resources,
    threads: int,
    reason: str,
    settings: KitSettings,
) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "tfmodel": package_version(),
        "settings": settings.model_dump(mode="json"),
        "models": {each.model.name: each.measured for each in made},
        "chosen": {
            "num_batch_threads": threads,
            "threads_reason": reason,
            "resources": dataclasses.asdict(resources),
            "models": {
                each.model.name: {**each.batching.figures, "reasons": [*each.batching.reasons]}
                for each in made
            },
        },
    }


def _tag(
    folder: Path, made: Sequence[_Made], configs: Mapping[str, str], settings: KitSettings
) -> str:
    """Names an image and its ConfigMap by what is in them, so that no two have one name."""
    content = {}
    for each in made:
        model = each.model
        warmup = (folder / "models" / model.name / str(model.version) / WARMUP_FILE).read_bytes()
        content[model.name] = [
            model.version,
            each.measured["weights"],
            each.batching.figures,
            hashlib.sha256(warmup).hexdigest(),
        ]
    image = {"tf_serving": settings.tf_serving, "models": content, "configs": dict(configs)}
    return fingerprint(image)[:12]


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _open_to_all(folder: Path) -> None:
    """Containers read the files as a user of their own, whatever the umask here is."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        is_open = path.is_dir() or path.suffix == ".sh"
        path.chmod(0o755 if is_open else 0o644)
