"""Templates of the kit's files, which lie beside this module."""

from __future__ import annotations

import importlib.resources
import json
import shlex
from collections.abc import Mapping
from typing import Any

import jinja2

TEMPLATES = (
    ".dockerignore",
    "Dockerfile",
    "README.md",
    "compose.yaml",
    "grafana/provisioning/dashboards/serving.yaml",
    "grafana/provisioning/datasources/prometheus.yaml",
    "kubernetes/configmap.yaml",
    "kubernetes/deployment.yaml",
    "kubernetes/hpa.yaml",
    "kubernetes/kustomization.yaml",
    "kubernetes/pdb.yaml",
    "kubernetes/service.yaml",
    "prometheus/kubernetes.yml",
    "prometheus/prometheus.yml",
    "prometheus/rules.yml",
    "smoke.sh",
    "verify.sh",
)
"""Files of a kit; the template of one is its last name, with the folder before a dash."""


def render(name: str, view: Mapping[str, Any]) -> str:
    """A file of the kit.

    Args:
        name: one of `TEMPLATES`.
        view: what it shows. Filters: `json` writes a string that YAML reads too, `shell` a word.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.filters["shell"] = shlex.quote
    return environment.get_template(_template(name)).render(view)


def _template(name: str) -> str:
    return name.strip(".").replace("/", "-") + ".jinja"


def _source(name: str) -> str:
    return (
        importlib.resources.files("tfmodel.serve.kit")
        .joinpath("templates", name)
        .read_text("utf-8")
    )
