"""A kit of real exports: measured, asked, looked at by the validators that others keep.

What needs more than the extra `kit`: promtool and kubectl, of Debian's packages prometheus and
kubernetes-client, and curl.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import grpc
import needs
import pytest
import yaml

from tfmodel.export.manifest import Manifest
from tfmodel.serve import Server, serve_settings
from tfmodel.serve.kit import protos, validators
from tfmodel.serve.kit.measuring import rows_of_run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODELS = ["classify", "span", "tag"]  # a label, an answer in a second text, a tag for each word
_YAMLLINT = (
    "{extends: default, rules: {line-length: disable, document-start: disable, comments: disable}}"
)


@pytest.fixture(scope="module")
def kit(exported_tasks, tmp_path_factory):
    """A kit of three models; not to be changed."""
    from command import run_command

    folder = tmp_path_factory.mktemp("kit")
    columns = exported_tasks["span"].columns
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines), "utf-8")
    bases = [exported_tasks[name].base for name in MODELS]
    options = ["--texts", folder / "rows.jsonl", "--seconds", "0.5", "--cores", "1"]
    done = run_command("kit", *bases, "--output", folder / "kit", *options)
    assert done.code == 0, done.err
    assert f"{folder / 'kit'}: README.md there says" in done.out
    return folder / "kit"


@pytest.fixture(scope="module")
def server(kit):
    """The local server with the kit's models, told their labels by the kit's own config."""
    from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

    bases = {name: kit / "models" / name for name in MODELS}
    settings = serve_settings(rest_port=0, grpc_port=0, max_batch_size=64)
    with Server(bases, settings=settings) as server:
        request = model_management_pb2.ReloadConfigRequest()
        text = (kit / "config/models.config").read_text()
        request.config.CopyFrom(protos.read("ModelServerConfig", text, where="models.config"))
        for entry in request.config.model_config_list.config:
            entry.base_path = entry.base_path.replace("/models", str(kit / "models"))
        with grpc.insecure_channel(server.grpc_address) as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            answer = stub.HandleReloadConfigRequest(request, timeout=60)
        assert answer.status.error_code == 0, answer
        yield server


def test_figures_were_measured(kit):
    found = json.loads((kit / "measured.json").read_text())
    assert [*found["models"]] == MODELS
    for name, figures in found["models"].items():
        rows = [entry["rows"] for entry in figures["batches"]]
        assert rows[:3] == [1, 2, 4] and all(entry["p50_ms"] > 0 for entry in figures["batches"])
        assert figures["cores"] == 1 and "made-up rows" in figures["rows"]
        assert figures["model_memory_mb"] >= 0 and figures["runtime_memory_mb"] > 50
        chosen = found["chosen"]["models"][name]
        assert chosen["max_batch_size"] in rows and len(chosen["reasons"]) == 4


def test_its_figures_make_the_same_kit_again(kit, exported_tasks, tfmodel, tmp_path):
    base = exported_tasks["classify"].base
    options = ["--texts", kit.parent / "rows.jsonl", "--measured", kit / "measured.json"]
    done = tfmodel("kit", base, "--output", tmp_path / "kit", *options)
    assert done.code == 0, done.err
    for name in ("batching_params.pbtxt", "assets.extra/tf_serving_warmup_requests"):
        path = f"models/classify/1/{name}"
        assert (tmp_path / "kit" / path).read_bytes() == (kit / path).read_bytes()
    checks = [line for line in (kit / "smoke.sh").read_text().splitlines() if "check class" in line]
    assert checks and {*checks} <= {*(tmp_path / "kit/smoke.sh").read_text().splitlines()}


def test_a_run_is_measured_with_rows_of_its_own(finished):
    run, manifest = finished / "runs/small", Manifest(labels=(), max_length=12)
    columns, source = rows_of_run(run, manifest)
    assert source == "24 rows of the run's test part" and len({*columns["text"]}) == 24
    raw = (finished / "train.csv").read_text()
    assert all(text in raw for text in columns["text"])
    pairs = dataclasses.replace(manifest, has_pairs=True)  # which the run has not
    assert rows_of_run(run, pairs) is None and rows_of_run(finished, manifest) is None


# --- validators -----------------------------------------------------------------------------


@pytest.fixture
def spoiled(kit, tmp_path):
    """A copy of all but the models, to spoil."""
    ignore = shutil.ignore_patterns("models")
    return Path(shutil.copytree(kit, tmp_path / "kit", ignore=ignore))


def require_validators():
    for package in ("check_jsonschema", "jsonschema", "kubernetes_validate", "promql_parser"):
        needs.package(package)
    if not Path(sys.executable).with_name("shellcheck").exists():
        needs.give_up("shellcheck is not installed: pip install -e '.[kit]'")


def test_validators_find_nothing_in_a_kit_and_something_in_others(kit, spoiled):
    require_validators()
    assert not [*validators.problems(kit)]
    for name, old, new in [
        ("compose.yaml", "stop_grace_period", "stop_grace_time"),
        ("kubernetes/deployment.yaml", "failureThreshold", "failuresThreshold"),
        ("kubernetes/hpa.yaml", "maxReplicas: 6", "maxReplicas: six"),
        ("prometheus/rules.yml", "absent(", "absence("),
        ("grafana/dashboards/serving.json", "histogram_quantile(0.5, ", "histogram_quantile("),
        ("smoke.sh", "$address/monitoring", "$adress/monitoring"),
    ]:
        path = spoiled / name
        before = path.read_text()
        assert old in before
        path.write_text(before.replace(old, new))
        assert name in {file for file, _ in validators.problems(spoiled)}, name
        path.write_text(before)


def test_yaml_is_tidy(kit):
    needs.package("yamllint")
    from yamllint import linter
    from yamllint.config import YamlLintConfig

    config = YamlLintConfig(_YAMLLINT)
    for path in (*kit.rglob("*.yaml"), *kit.rglob("*.yml")):
        found = [*linter.run(path.read_text(), config)]
        assert not found, (path, found)


def test_grafana_reads_the_whole_dashboard(kit):
    sdk = needs.package("grafana_foundation_sdk.models.dashboard")
    from grafana_foundation_sdk.cog import encoder, plugins

    plugins.register_default_plugins()
    content = json.loads((kit / "grafana/dashboards/serving.json").read_text())
    read = encoder.JSONEncoder(sort_keys=True, indent=2).encode(sdk.Dashboard.from_json(content))

    def kept(ours, theirs, where):
        if isinstance(ours, dict):
            for key, value in ours.items():
                if key != "definition":  # of a variable: for Grafana's editor alone
                    kept(value, theirs[key], f"{where}.{key}")
        elif isinstance(ours, list):
            assert len(ours) == len(theirs), where
            for one, other in zip(ours, theirs, strict=True):
                kept(one, other, where)
        else:
            assert ours == theirs, where

    kept(content, json.loads(read), "dashboard")


RULES_TEST = {
    "rule_files": ["rules.yml"],
    "evaluation_interval": "1m",
    "tests": [
        {
            "interval": "1m",
            "input_series": [
                {"series": 'up{job="tf-serving", instance="a"}', "values": "1x5 0x10"},
                {
                    "series": ':tensorflow:serving:request_count{model_name="m", status="OK"}',
                    "values": "0+100x15",
                },
                {
                    "series": ':tensorflow:serving:request_count{model_name="m", '
                    'status="INVALID_ARGUMENT"}',
                    "values": "0+50x15",
                },
                {
                    "series": ':tensorflow:serving:request_count{model_name="m", '
                    'status="UNAVAILABLE"}',
                    "values": "0x5 0+10x10",
                },
                *(
                    {
                        "series": ":tensorflow:serving:request_latency_bucket"
                        f'{{model_name="tag", API="predict", le="{le}"}}',
                        "values": "0+60x30",
                    }
                    for le in ("1e+09", "+Inf")
                ),
            ],
            "alert_rule_test": [
                {"eval_time": "4m", "alertname": "ServingDown", "exp_alerts": []},
                {
                    "eval_time": "8m",
                    "alertname": "ServingDown",
                    "exp_alerts": [
                        {
                            "exp_labels": {
                                "severity": "critical", "job": "tf-serving", "instance": "a",
                            },
                            "exp_annotations": {"summary": "a does not answer"},
                        }
                    ],
                },
                {"eval_time": "5m", "alertname": "ServingErrors", "exp_alerts": []},
                {
                    "eval_time": "15m",
                    "alertname": "ServingSheds",
                    "exp_alerts": [
                        {
                            "exp_labels": {"severity": "warning", "model_name": "m"},
                            "exp_annotations": {
                                "summary": "m: requests are refused or late; the queue is full",
                                "description": "Add servers, or ask less.",
                            },
                        }
                    ],
                },
            ],
        }
    ],
}  # fmt: skip


def promtool(*arguments, folder):
    if shutil.which("promtool") is None:
        needs.give_up("there is no promtool: apt-get install prometheus")
    return subprocess.run(
        ["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )


def test_prometheus_takes_the_rules_and_they_fire(kit, tmp_path):
    folder = Path(shutil.copytree(kit / "prometheus", tmp_path / "prometheus"))
    # Debian's build does not know how to find pods; the rest of the file is looked at.
    text = (folder / "kubernetes.yml").read_text()
    pods = "kubernetes_sd_configs:\n      - role: pod\n"
    assert pods in text
    (folder / "kubernetes.yml").write_text(text.replace(pods, "static_configs: []\n"))
    for arguments in (
        ["check", "config", "prometheus.yml"],
        ["check", "config", "kubernetes.yml"],
        ["check", "rules", "rules.yml"],
    ):
        done = promtool(*arguments, folder=folder)
        assert done.returncode == 0 and "FAILED" not in done.stdout, done.stdout + done.stderr
    assert f"{5 + len(MODELS)} rules found" in done.stdout
    (folder / "test.yml").write_text(yaml.safe_dump(RULES_TEST))
    done = promtool("test", "rules", "test.yml", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    rules = (folder / "rules.yml").read_text()
    (folder / "rules.yml").write_text(rules.replace("== 0", "== 2"))
    assert promtool("test", "rules", "test.yml", folder=folder).returncode == 1


def test_kustomize_makes_one_set_of_manifests(kit):
    if shutil.which("kubectl") is None:
        needs.give_up("there is no kubectl: apt-get install kubernetes-client")
    command = ["kubectl", "kustomize", str(kit / "kubernetes")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    kinds = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    assert {*kinds} == {
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service",
    }  # fmt: skip
    (container,) = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert re.fullmatch(r"tf-serving-models:[0-9a-f]{12}", container["image"])
    tag = container["image"].partition(":")[2]
    assert tag in (kit / "README.md").read_text()
    volumes = kinds["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert kinds["ConfigMap"]["metadata"]["name"] == f"tf-serving-{tag}"
    assert {"name": "config", "configMap": {"name": f"tf-serving-{tag}"}} in volumes


# --- scripts --------------------------------------------------------------------------------


def smoke(kit, address):
    if shutil.which("curl") is None:
        needs.give_up("there is no curl")
    command = [str(kit / "smoke.sh"), f"http://{address}"]
    environment = {**os.environ, "PATIENCE_SECONDS": "2"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_the_smoke_script_compares_every_answer(kit, server, spoiled):
    done = smoke(kit, server.rest_address)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert said[-1] == "all passed" and len(said) > 40
    for words in ("classify: row 1: scores", "span: row 2: answer", "tag: row 4: tags",
                  "span: 4 rows at once: score"):  # fmt: skip
        assert f"passed: {words}" in said
    # A model that answers otherwise is found out, and so is a server that is not there.
    script = (spoiled / "smoke.sh").read_text()
    other = re.sub(r"(?m)^(check .*scores '?)0\.\d", r"\g<1>1.5", script).replace("B-", "I-")
    (spoiled / "smoke.sh").write_text(other)
    done = smoke(spoiled, server.rest_address)
    assert done.returncode == 1
    failed = re.findall(r"^failed: (\w+: row \d: \w+)", done.stdout, re.M)
    assert {f"classify: row {row}: scores" for row in (1, 2, 3, 4)} < {*failed}
    assert [each for each in failed if each.startswith("tag")] and len(failed) < len(said)
    done = smoke(kit, "127.0.0.1:9")
    assert done.returncode == 1 and "passed" not in done.stdout


# Docker, as far as the script asks it, and a curl that finds the local server in its place.
DOCKER = """#!/bin/sh
echo "$*" >>"$LOG"
case "$*" in
*"id -u"*) echo 65534 ;;
*"exec -T serving bash"*) exit 1 ;;
*logs*) echo "Finished reading warmup data for model" ;;
esac
"""
CURL = """#!/bin/sh
case "$*" in
*127.0.0.1:8501*)
  for each; do
    shift
    case "$each" in
    http://127.0.0.1:8501*) each="http://$SERVER${each#http://127.0.0.1:8501}" ;;
    esac
    set -- "$@" "$each"
  done
  exec "$REAL" "$@" ;;
*query=up*) echo '{"value":[1,"1"]}' ;;
*query=*) echo '{"model_name":"m"}' ;;
*) echo '{"database": "ok", "panels": []}' ;;
esac
"""


def test_verify_goes_through_all_its_steps(kit, server, tmp_path):
    log, tools = tmp_path / "log", tmp_path / "tools"
    tools.mkdir()
    for name, text in (("docker", DOCKER), ("curl", CURL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "SERVER": server.rest_address,
        "REAL": shutil.which("curl") or needs.give_up("there is no curl"),
        "LOG": str(log),
        "PATIENCE_SECONDS": "2",
    }

    def verify():
        command = ["bash", str(ROOT / "serving/verify.sh"), str(kit)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path
        )

    done = verify()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("== all passed")
    assert "passed: Finished reading warmup data" in done.stdout
    assert "not said: Wrapping session" in done.stdout
    asked = log.read_text().splitlines()
    assert asked[:2] == ["compose config --quiet", "compose up --detach"]
    assert asked[-1].startswith("compose down --volumes")
    environment["SERVER"] = "127.0.0.1:9"
    done = verify()
    assert done.returncode == 1 and "failed: REST answers, after 2 s" in done.stdout
    assert log.read_text().splitlines()[-1].startswith("compose down")


def test_scripts_of_the_repository_are_sound():
    require_validators()
    scripts = sorted((ROOT / "serving").glob("*.sh"))
    assert scripts and all(path.stat().st_mode & stat.S_IXUSR for path in scripts)
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_model_that_fails_in_its_process_leaves_nothing(exported_tasks, tmp_path, tfmodel):
    base = tmp_path / "served"
    shutil.copytree(exported_tasks["classify"].base, base)
    for path in (base / "1/variables").glob("variables.data*"):
        path.write_bytes(path.read_bytes()[:100])
    with contextlib.chdir(tmp_path) if hasattr(contextlib, "chdir") else contextlib.nullcontext():
        done = tfmodel("kit", base, "--output", tmp_path / "kit")
    assert done.code == 1 and "served: the model cannot be measured" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["served"]
