"""Which models go into a kit: found by their runs or exports, and refused where they may not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.export.linting import lint
from tfmodel.export.linting.saved_graph import GRAPH_FILE
from tfmodel.export.manifest import MANIFEST_FILE, Manifest, read_files
from tfmodel.export.places import is_version, task_runs, versions
from tfmodel.export.publish import FAILED_PARITY_FILE, PARITY_FILE, SAVEDMODEL_FOLDER
from tfmodel.serve.kit.settings import check_name

_WANTED = "a run folder, a folder of version folders 1, 2, … of SavedModels, or one of these"


@dataclasses.dataclass(frozen=True)
class KitModel:
    """A version that a kit serves.

    Attributes:
        name: what clients call it.
        folder: the version folder that it is copied from.
        run: the run that made it, where it lies in one.
        manifest: what it says of itself.
        is_compared: whether a parity file tells of it; a refusal there would have kept it out.
    """

    name: str
    folder: Path
    run: Path | None
    manifest: Manifest
    is_compared: bool

    @property
    def version(self) -> int:
        """Its number."""
        return int(self.folder.name)


def find_models(
    where: Sequence[str | Path], *, names: Sequence[str] = (), target: str
) -> list[KitModel]:
    """Find the versions that runs and exports have last published.

    Args:
        where: run folders, base folders or version folders.
        names: what to call each; by default as its run, or its folder.
        target: the TF Serving release that they must fit.

    Raises:
        ConfigError: no SavedModel of this project's there, the lint or the parity file refuses it,
            or two have one name.
    """
    if not where:
        raise ConfigError("Expected a run or an export. Received: none.")
    if len(names) > len(where) or (names and len(names) < len(where)):
        raise ConfigError(
            f"--name: expected one for each run, {len(where)}, in their order. Received: "
            f"{len(names)}."
        )
    found = []
    for number, path in enumerate(where):
        folder = _version_folder(Path(path))
        run = _run_of(folder)
        name = names[number] if names else _name_of(folder, run)
        _check_lint(folder, target)
        found.append(
            KitModel(check_name(name), folder, run, _manifest(folder), _check_parity(folder))
        )
    called = [model.name for model in found]
    for name in called:
        if called.count(name) > 1:
            raise ConfigError(
                f"Expected a name for each model. Received: {name} twice. Name them: "
                + " ".join(f"--name {each}-{place}" for place, each in enumerate(called, 1))
            )
    return sorted(found, key=lambda model: model.name)


def _version_folder(path: Path) -> Path:
    if not path.is_dir():
        received = "a file" if path.exists() else "a path where nothing is"
        raise ConfigError(f"{path}: expected {_WANTED}. Received: {received}. Check the path.")
    if (path / GRAPH_FILE).is_file():
        folder = path.resolve()
        if not is_version(folder.name):
            raise ConfigError(
                f"{path}: expected a version folder, whose name is its number. Received: a "
                f"SavedModel called {folder.name}. Move it: BASE/1"
            )
        return folder
    base = path
    if (path / "config.yaml").is_file():
        base = _base_of_run(path)
    if not versions(base):
        raise ConfigError(
            f"{path}: expected {_WANTED}. Received: a folder without a SavedModel. Export first: "
            "tfmodel export CONFIG"
        )
    return (base / str(versions(base)[-1])).resolve()


def _base_of_run(run: Path) -> Path:
    export = run / "export"
    if tasks := task_runs(run):
        raise ConfigError(
            f"{run}: expected the run of one task. Received: a run of several on one encoder. Name "
            f"those to be served: tfmodel kit {' '.join(map(str, tasks))} --output FOLDER"
        )
    if (export / FAILED_PARITY_FILE).exists():
        raise ConfigError(
            f"{run}: expected a run whose last export was published. Received: one that was "
            f"refused, see {export / FAILED_PARITY_FILE}. Export it again, or name an older "
            f"version: {export / SAVEDMODEL_FOLDER}/1"
        )
    bases = [base for base in sorted(export.glob(f"{SAVEDMODEL_FOLDER}*")) if versions(base)]
    if not bases:
        raise ConfigError(
            f"{run}: expected a run with a SavedModel in export/. Received: one without. Export "
            "it: tfmodel export CONFIG, with export.savedmodel=true"
        )
    return bases[0]


def _run_of(folder: Path) -> Path | None:
    run = folder.parents[2] if folder.parents[1].name == "export" else None
    return run if run is not None and (run / "config.yaml").is_file() else None


def _name_of(folder: Path, run: Path | None) -> str:
    base = folder.parent.name
    if run is None:
        return base
    return run.name + base.removeprefix(SAVEDMODEL_FOLDER)


def _manifest(folder: Path) -> Manifest:
    assets = folder / "assets"
    files = {}
    if assets.is_dir():
        # Of the others only that they are there is looked at.
        files = {
            path.name: path.read_bytes() if path.name == MANIFEST_FILE else b""
            for path in assets.iterdir()
        }
    return read_files(files, name=str(folder))


def _check_lint(folder: Path, target: str) -> None:
    report = lint(folder, target=target)
    if not report.passed:
        raise ConfigError(
            f"{folder}: expected a SavedModel that TF Serving {target} can serve. Received: "
            f"{' '.join(report.problems)} See: tfmodel lint {folder} --target {target}"
        )


def _check_parity(folder: Path) -> bool:
    """Whether the export's check tells of a version; it must not have failed."""
    path = folder.parents[1] / PARITY_FILE
    wanted = f"{folder.parent.name}/{folder.name}"
    try:
        artifacts = json.loads(path.read_bytes())["artifacts"].values()
        verdicts = [each["passed"] for each in artifacts if each.get("path") == wanted]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError(
            f"{path}: expected what an export wrote of its check. Received: a file that cannot be "
            "read, so nobody knows whether the model answers rightly. Export again."
        ) from None
    if not all(verdict is True for verdict in verdicts):
        raise ConfigError(
            f"{folder}: expected a SavedModel that answers as its model does. Received: one that "
            f"failed that check, see {path}. Export again."
        )
    return bool(verdicts)
