"""The extra `kit`: validators that others keep for compose files, manifests, queries, scripts."""

from __future__ import annotations

import importlib.resources
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

KUBERNETES = "1.31"
"""The release whose schemas manifests must fit; the kinds of a kit are in every later one too."""
_COMPOSE_SCHEMA = "builtin_schemas/vendor/compose-spec.json"


def problems(folder: Path) -> Iterator[tuple[str, str]]:
    """What the validators that are installed find.

    Args:
        folder: the kit.

    Yields:
        The file, and a sentence for each fault.
    """
    yield from _compose(folder)
    yield from _kubernetes(folder)
    yield from _queries(folder)
    yield from _scripts(folder)


def _compose(folder: Path) -> Iterator[tuple[str, str]]:
    if not _is_there("check_jsonschema") or not _is_there("jsonschema"):
        return
    import jsonschema

    # The package is a command, whose modules are its own; the schema is a file in it.
    schema = importlib.resources.files("check_jsonschema").joinpath(_COMPOSE_SCHEMA)
    validator = jsonschema.validators.validator_for(json.loads(schema.read_text("utf-8")))
    content = yaml.safe_load((folder / "compose.yaml").read_text("utf-8"))
    for error in validator(json.loads(schema.read_text("utf-8"))).iter_errors(content):
        yield "compose.yaml", f"{error.json_path}: {error.message}"[:300]


def _kubernetes(folder: Path) -> Iterator[tuple[str, str]]:
    if not _is_there("kubernetes_validate"):
        return
    import kubernetes_validate

    for path in sorted((folder / "kubernetes").glob("*.yaml")):
        if path.name == "kustomization.yaml":  # read by kustomize, not by the cluster
            continue
        content = yaml.safe_load(path.read_text("utf-8"))
        try:
            kubernetes_validate.validate(content, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"kubernetes/{path.name}", str(error.message)[:300]
        except kubernetes_validate.SchemaNotFoundError:
            yield f"kubernetes/{path.name}", f"Kubernetes {KUBERNETES} has no such kind"


def _queries(folder: Path) -> Iterator[tuple[str, str]]:
    if not _is_there("promql_parser"):
        return
    import promql_parser

    rules = yaml.safe_load((folder / "prometheus/rules.yml").read_text("utf-8"))
    asked = [
        ("prometheus/rules.yml", rule["expr"])
        for group in rules["groups"]
        for rule in group["rules"]
    ]
    name = "grafana/dashboards/serving.json"
    panels = json.loads((folder / name).read_text("utf-8"))["panels"]
    # Grafana puts a time in its place.
    asked += [
        (name, target["expr"].replace("$__rate_interval", "5m"))
        for panel in panels
        for target in panel["targets"]
    ]
    for file, query in asked:
        try:
            promql_parser.parse(query)
        except ValueError as error:
            yield file, f"{error} in {query!r}"


def _scripts(folder: Path) -> Iterator[tuple[str, str]]:
    beside = Path(sys.executable).with_name("shellcheck")
    command = str(beside) if beside.exists() else shutil.which("shellcheck")
    if command is None:
        return
    for path in sorted(folder.glob("*.sh")):
        done = subprocess.run([command, str(path)], capture_output=True, text=True)
        if done.returncode:
            yield path.name, done.stdout.strip()[:500]


def _is_there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
