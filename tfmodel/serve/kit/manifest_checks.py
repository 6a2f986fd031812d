"""What a kit promises of its containers, on one machine and on Kubernetes, and whether it is so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NAME = "tf-serving"
_PINNED = re.compile(r"(\$\{\w+:-)?[\w./-]+:v?\d+\.\d+\.\d+\}?")
_KINDS = {
    "kubernetes/configmap.yaml": ("v1", "ConfigMap"),
    "kubernetes/deployment.yaml": ("apps/v1", "Deployment"),
    "kubernetes/hpa.yaml": ("autoscaling/v2", "HorizontalPodAutoscaler"),
    "kubernetes/kustomization.yaml": ("kustomize.config.k8s.io/v1beta1", "Kustomization"),
    "kubernetes/pdb.yaml": ("policy/v1", "PodDisruptionBudget"),
    "kubernetes/service.yaml": ("v1", "Service"),
}


def compose_problems(compose: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """What is wrong with a compose file.

    Args:
        compose: its content.
        folder: the kit, where the files that it mounts are.

    Yields:
        A sentence for each fault.
    """
    if {*compose["services"]} != {"serving", "prometheus", "grafana"}:
        yield "its services are not serving, prometheus and grafana"
    for name, service in compose["services"].items():
        if not _PINNED.fullmatch(service["image"]):
            yield f"{name}: the image {service['image']} is not pinned to a release"
        if service.get("read_only") is not True or service.get("cap_drop") != ["ALL"]:
            yield f"{name}: its root filesystem can be written, or it keeps capabilities"
        if service.get("security_opt") != ["no-new-privileges:true"]:
            yield f"{name}: it may get new privileges"
        for port in service["ports"]:
            if not str(port).startswith("127.0.0.1:"):
                yield f"{name}: port {port} is open to other machines"
        for volume in service["volumes"]:
            source, _, rest = volume.partition(":")
            if source.startswith("./"):
                if not (folder / source).is_dir() or not rest.endswith(":ro"):
                    yield f"{name}: {volume} is not a folder of the kit, read-only"
            elif source not in compose["volumes"]:
                yield f"{name}: there is no volume {source}"
    if compose["services"]["serving"].get("user") in (None, "0", "root", "0:0"):
        yield "serving: it runs as root"


def kubernetes_problems(
    manifests: Mapping[str, Mapping[str, Any]], folder: Path
) -> Iterator[tuple[str, str]]:
    """What is wrong with manifests.

    Args:
        manifests: file name to content.
        folder: the kit.

    Yields:
        The file, and a sentence for each fault.
    """
    for name, wanted in _KINDS.items():
        given = manifests.get(name, {})
        if (given.get("apiVersion"), given.get("kind")) != wanted:
            yield name, f"it is no {wanted[1]} of {wanted[0]}"
            return
        if wanted[1] not in ("ConfigMap", "Kustomization") and given["metadata"]["name"] != NAME:
            yield name, f"its name is not {NAME}"
    others = {Path(name).name for name in _KINDS} - {"kustomization.yaml"}
    kustomization = manifests["kubernetes/kustomization.yaml"]
    if {*kustomization["resources"]} != others:
        yield "kubernetes/kustomization.yaml", "it does not list the other files"
    configs = {path.name: path.read_text("utf-8") for path in (folder / "config").iterdir()}
    if manifests["kubernetes/configmap.yaml"]["data"] != configs:
        yield "kubernetes/configmap.yaml", "it differs from the files in config/"
    deployment = manifests["kubernetes/deployment.yaml"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    chosen = {
        "kubernetes/deployment.yaml": deployment["selector"]["matchLabels"],
        "kubernetes/pdb.yaml": manifests["kubernetes/pdb.yaml"]["spec"]["selector"]["matchLabels"],
        "kubernetes/service.yaml": manifests["kubernetes/service.yaml"]["spec"]["selector"],
    }
    for name, selector in chosen.items():
        if not selector.items() <= labels.items():
            yield name, "its selector does not find the pods"
    target = manifests["kubernetes/hpa.yaml"]["spec"]["scaleTargetRef"]
    if target != {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}:
        yield "kubernetes/hpa.yaml", "it scales something else than the Deployment"
    tags = [image["newTag"] for image in kustomization["images"] if image["name"]]
    if len(tags) != 1 or not isinstance(tags[0], str):
        yield "kubernetes/kustomization.yaml", "the image has no tag of its own"
        return
    # Under one name the next kit's configs would reach the pods of this one's image.
    config = f"{NAME}-{tags[0]}"
    if manifests["kubernetes/configmap.yaml"]["metadata"]["name"] != config:
        yield "kubernetes/configmap.yaml", f"its name is not {config}, by the image's tag"
    volumes = deployment["template"]["spec"]["volumes"]
    if {"name": "config", "configMap": {"name": config}} not in volumes:
        yield "kubernetes/deployment.yaml", f"it does not mount the ConfigMap {config}"
    for problem in _pod_problems(deployment["template"]["spec"]):
        yield "kubernetes/deployment.yaml", problem


def _pod_problems(pod: Mapping[str, Any]) -> Iterator[str]:
    (container,) = pod["containers"]
    security = {**pod["securityContext"], **container["securityContext"]}
    wanted = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for key, value in wanted.items():
        if security.get(key) != value:
            yield f"{key} is not {value}"
    if pod.get("automountServiceAccountToken") is not False:
        yield "the pod gets a token of the cluster"
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if container.get(probe, {}).get("httpGet", {}).get("port") not in ports:
            yield f"its {probe} asks no port of it"
    resources = container["resources"]
    if {*resources["requests"]} != {"cpu", "memory"} or "memory" not in resources["limits"]:
        yield "it requests no processor and memory, or has no limit of memory"
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    if mounted != {volume["name"] for volume in pod["volumes"]}:
        yield "its volumes are not those that it mounts"
