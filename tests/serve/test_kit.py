"""A kit's files, of a model that is saved in a moment and figures that were not measured."""

import json
import shutil
import stat
from pathlib import Path

import pytest
import yaml
from small_servable import copy_version, write_half_plus

from tfmodel.config import ConfigError
from tfmodel.export.linting.warmup_records import WARMUP_FILE
from tfmodel.export.manifest import Manifest
from tfmodel.export.savedmodel.warmup import write_warmup
from tfmodel.serve.kit import checks, kit_settings, measuring, protos, write_kit

RATES = [(1, 10.0), (2, 12.0), (4, 16.0), (8, 24.0), (16, 40.0), (32, 72.0), (64, 140.0)]
FIGURES = {
    "batches": [
        {
            "rows": rows,
            "p50_ms": ms,
            "p99_ms": 2 * ms,
            "rows_per_second": 1000 * rows / ms,
            "batches": 12,
        }
        for rows, ms in RATES
    ],
    "threads": [{"threads": 1, "rows_per_second": 100.0}, {"threads": 2, "rows_per_second": 99.0}],
    "load_seconds": 1.0,
    "ready_seconds": 2.0,
    "runtime_memory_mb": 400.0,
    "model_memory_mb": 200.0,
    "tensorflow": "2.21.0",
    "processor": "a processor",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run whose export is another model than its manifest says, which no file shows."""
    run = tmp_path_factory.mktemp("runs") / "news"
    base = run / "export/savedmodel"
    base.mkdir(parents=True)
    (run / "config.yaml").write_text("run: runs/news\n")
    version = write_half_plus(base / "1")
    manifest = Manifest(labels=("no", 'ye"s'), max_length=16)
    (version / "assets").mkdir(exist_ok=True)
    (version / "assets/tfmodel.json").write_text(manifest.to_json())
    for name in ("vocab.txt", "labels.txt"):
        (version / "assets" / name).write_text("")
    copy_version(version, base / "3")
    parity = {"artifacts": {"savedmodel": {"path": "savedmodel/3", "passed": True}}}
    (run / "export/parity.json").write_text(json.dumps(parity))
    return run


@pytest.fixture
def run(made, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "runs/news"))


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """Nothing is measured; what was asked for is kept."""
    given = []

    def measure(folder, manifest, settings, *, name, rows, asked, sizes=None):
        given.append({"folder": folder, "rows": rows, "asked": asked, "sizes": sizes})
        chosen = sizes or (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
        write_warmup(folder, asked["text"], manifest, ["serving_default", "ids"], sizes=chosen)
        answer = {"label": ["no"], "score": [0.75], "scores": [[0.75, 0.25]]}
        return {
            "measured": {} if sizes else dict(FIGURES),
            "answers": [answer for _ in asked["text"]],
            "together": {name: values * len(asked["text"]) for name, values in answer.items()},
            "count": len(asked["text"]),
        }

    monkeypatch.setattr(measuring, "measure", measure)
    return given


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_kit_has_every_file_and_two_kits_are_alike(made, tmp_path, asked):
    kit = write_kit(made, tmp_path / "kit")
    assert asked[0]["rows"]["text"][0::2] == ["no", 'ye"s'] and asked[0]["sizes"] is None
    again = write_kit([made], tmp_path / "again", measured=kit / "measured.json")
    assert asked[1]["sizes"][-1] == 32
    assert files_of(kit) == files_of(again)
    names = {*files_of(kit)}
    assert {"compose.yaml", "smoke.sh", "verify.sh", "README.md", "measured.json"} < names
    assert {name for name in names if name.startswith("models/")} > {
        f"models/news/3/{name}" for name in ("saved_model.pb", "batching_params.pbtxt", WARMUP_FILE)
    }
    config = protos.read("ModelServerConfig", (kit / "config/models.config").read_text(), where="x")
    (entry,) = config.model_config_list.config
    assert (entry.name, entry.base_path) == ("news", "/models/news")
    assert [*entry.model_version_policy.specific.versions] == [3]
    assert dict(entry.version_labels) == {"stable": 3}
    modes = {stat.S_IMODE(path.stat().st_mode) for path in kit.rglob("*") if path.is_file()}
    assert modes == {0o644, 0o755} and stat.S_IMODE((kit / "smoke.sh").stat().st_mode) == 0o755
    smoke = (kit / "smoke.sh").read_text()
    assert (
        """check news 'row 2: label' '{"inputs": {"text": ["ye\\"s"]}}' label '"no"' 0.001"""
        in smoke
    )
    readme = (kit / "README.md").read_text()
    assert "| 32 | 72.00 | 144.00 | 444 | 12 |" in readme and "yes, by its parity file" in readme
    assert "TF Serving itself was not run" in readme
    rules = yaml.safe_load((kit / "prometheus/rules.yml").read_text())["groups"][0]["rules"]
    (slow,) = [rule for rule in rules if rule["alert"] == "ServingSlow"]
    assert slow["expr"].endswith("> 576000")  # four times 144 ms
    assert not [name for name, text in files_of(kit).items() if b"{{ model" in text]


def test_no_row_of_the_data_is_written(made, tmp_path, asked, monkeypatch):
    rows = {"text": ["a private row"]}
    monkeypatch.setattr(measuring, "rows_of_run", lambda *_: (rows, "1 row of the run's test part"))
    kit = write_kit(made, tmp_path / "kit")
    assert asked[0]["rows"] == rows and asked[0]["asked"] == {"text": ["no", 'ye"s']}
    assert not [name for name, content in files_of(kit).items() if b"private" in content]
    assert "Measured with 1 row of the run's test part" in (kit / "README.md").read_text()


def test_several_models_and_names(made, run, tmp_path):
    kit = write_kit(
        [made, run / "export/savedmodel/1"], tmp_path / "kit", names=["b", "a"],
        settings=kit_settings(tf_serving="2.18.0", cores=1),
    )  # fmt: skip
    assert sorted(path.name for path in (kit / "models").iterdir()) == ["a", "b"]
    assert (kit / "models/a/1/saved_model.pb").is_file()
    assert "tensorflow/serving:2.18.0" in (kit / "compose.yaml").read_text()
    assert "no parity file was found" in (kit / "README.md").read_text()
    args = yaml.safe_load((kit / "compose.yaml").read_text())["services"]["serving"]["command"]
    assert "--tensorflow_intra_op_parallelism=1" in args


def test_rows_of_ones_own_are_asked(made, tmp_path, asked):
    (tmp_path / "rows.jsonl").write_text('{"text": "a b"}\n\n{"text": "c", "more": 1}\n')
    kit = write_kit(made, tmp_path / "kit", texts=tmp_path / "rows.jsonl")
    assert asked[0]["asked"] == {"text": ["a b", "c"]}
    assert '{"inputs": {"text": ["a b"]}}' in (kit / "smoke.sh").read_text()


MISTAKES = [
    (lambda run: (run / "export/parity.json").write_text("{"), "a file that cannot be read"),
    (
        lambda run: (run / "export/parity.json").write_text(
            '{"artifacts": {"x": {"path": "savedmodel/3", "passed": false}}}'
        ),
        "failed that check",
    ),
    (lambda run: (run / "export/parity_failed.json").write_text("{}"), "one that was refused"),
    (
        lambda run: (run / "export/savedmodel/3/assets/tfmodel.json").unlink(),
        "expected an artifact exported by tfmodel",
    ),
    (
        lambda run: (
            (run / f"export/savedmodel/3/{WARMUP_FILE}").parent.mkdir()
            or (run / f"export/savedmodel/3/{WARMUP_FILE}").write_bytes(b"no record")
        ),
        "can serve. Received: TF Serving refuses the version",
    ),
    (lambda run: shutil.rmtree(run / "export/savedmodel"), "expected a run with a SavedModel"),
    (lambda run: (run / "config.yaml").unlink() or shutil.rmtree(run / "export"), "Export first"),
    (lambda run: shutil.rmtree(run), "a path where nothing is"),
]


@pytest.mark.parametrize(("spoil", "words"), MISTAKES, ids=range(len(MISTAKES)))
def test_models_that_are_refused(run, tmp_path, tfmodel, spoil, words):
    spoil(run)
    done = tfmodel("kit", run, "--output", tmp_path / "kit")
    assert done.code == 2 and words in done.err, done.err
    assert not [path for path in tmp_path.iterdir() if path.name not in ("runs",)]


def test_mistakes(made, run, tmp_path, tfmodel):
    (tmp_path / "taken").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "rows.jsonl").write_text('{"words": 1}\n')
    (tmp_path / "other.json").write_text('{"models": {}}')
    cases = [
        (["--output", tmp_path / "taken"], "expected a path where nothing is"),
        (["--texts", tmp_path / "none.txt"], "none.txt: expected a UTF-8 file with a text a line"),
        (["--texts", tmp_path / "empty.txt"], "a file without texts"),
        (["--texts", tmp_path / "rows.jsonl"], "KeyError: 'text'"),
        (["--measured", tmp_path / "other.json"], "the measured.json of a kit with the model news"),
        (["--name", "a/b"], "--name: expected letters"),
        (["--name", "a", "--name", "b"], "--name: expected one for each run, 1"),
        (["--tf-serving", "2.19"], "--tf-serving"),
        (["--cores", "9999"], "--cores: expected at most"),
        (["--output", tmp_path / "empty.txt/kit"], "expected a folder that can be written"),
        ([run], "Received: news twice. Name them: --name news-1 --name news-2"),
    ]
    for arguments, words in cases:
        if "--output" not in arguments:
            arguments = [*arguments, "--output", tmp_path / "kit"]
        done = tfmodel("kit", made, *arguments)
        assert done.code == 2 and words in done.err, (words, done.err)
    assert not (tmp_path / "kit").exists()


def test_figures_of_another_model_are_refused(made, run, tmp_path):
    kit = write_kit(made, tmp_path / "kit")
    assert measuring.weights_of(run / "export/savedmodel/3") == measuring.weights_of(
        kit / "models/news/3"
    )
    (run / "export/savedmodel/3/assets/labels.txt").write_text("other")
    with pytest.raises(ConfigError, match="those of another model that is called news"):
        write_kit(run, tmp_path / "other", measured=kit / "measured.json")


# --- checks ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chosen():
    return checks.Batching(32, (1, 2, 3, 4, 6, 8, 12, 16, 24, 32), 1000, 14, ())


FAULTS = [
    # file, what stands there, what takes its place, a part of the message
    ("config/models.config", "value: 3", "value: 4", "the label stable is not on its version"),
    ("config/models.config", "versions: 3", "versions: 4", "version 4 has no saved_model.pb"),
    ("config/models.config", "base_path", "base_paths", "no field named"),
    ("config/batching.config", "num_batch_threads", "num_threads", "no field named"),
    ("config/monitoring.config", "prometheus/metrics", "metrics", "where Prometheus asks"),
    (
        "models/news/3/batching_params.pbtxt", "allowed_batch_sizes: 32", "",
        "the last of allowed_batch_sizes is not max_batch_size",
    ),
    (
        "models/news/3/batching_params.pbtxt", "allowed_batch_sizes: 1\n", "",
        "its sizes are not those that were chosen",
    ),
    ("compose.yaml", "tensorflow/serving:2.19.1", "tensorflow/serving", "is not pinned"),
    ("compose.yaml", "127.0.0.1:8501:8501", "8501:8501", "is open to other machines"),
    ("compose.yaml", "read_only: true", "read_only: false", "can be written"),
    ("compose.yaml", "./models:/models:ro", "./model:/models:ro", "is not a folder of the kit"),
    ("compose.yaml", "enable_batching=true", "enable_batching=false", "with other arguments"),
    ("compose.yaml", "  serving:", "\tserving:", "found character"),
    ("kubernetes/deployment.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"),
    ("kubernetes/deployment.yaml", "port: rest}\n            periodSeconds: 10",
     "port: http}\n            periodSeconds: 10", "livenessProbe asks no port"),
    ("kubernetes/deployment.yaml", "--port=8500", "--port=850", "with other arguments"),
    ("kubernetes/configmap.yaml", "versions: 3", "versions: 2", "differs from the files in config"),
    ("kubernetes/configmap.yaml", "name: tf-serving-", "name: x-", "its name is not tf-serving-"),
    ("kubernetes/deployment.yaml", "configMap: {name: tf-serving-", "configMap: {name: ",
     "does not mount the ConfigMap tf-serving-"),
    ("prometheus/kubernetes.yml", "job_name: tf-serving", "job_name: pods", "its job is not tf-s"),
    ("kubernetes/service.yaml", "selector: {app.", "selector: {app2.", "does not find the pods"),
    ("kubernetes/hpa.yaml", "kind: Deployment", "kind: StatefulSet", "scales something else"),
    ("kubernetes/pdb.yaml", "policy/v1", "policy/v1beta1", "it is no PodDisruptionBudget"),
    ("kubernetes/kustomization.yaml", "  - hpa.yaml\n", "", "does not list the other files"),
    ("prometheus/rules.yml", "request_count{", "requests{", "has no series"),
    ("prometheus/rules.yml", "for: 1m", "fro: 1m", "a key that is not known"),
    ("grafana/dashboards/serving.json", '"y": 8', '"y": 7', "lies on another panel"),
    ("grafana/dashboards/serving.json", '"uid": "prometheus"', '"uid": "p"', "not provisioned"),
    ("grafana/dashboards/serving.json", "$model", "$name", "there is no variable $name"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "words"), FAULTS, ids=range(len(FAULTS)))
def test_a_file_with_a_fault_is_found(a_kit, chosen, file, old, new, words):
    path = a_kit / file
    before = path.read_text()
    assert old in before
    try:
        path.write_text(before.replace(old, new))
        with pytest.raises(RuntimeError, match="faults in the files of the kit") as caught:
            checks.check_kit(a_kit, sizes={"news": chosen})
        assert f"{file}: " in str(caught.value) and words in str(caught.value)
    finally:
        path.write_text(before)


@pytest.fixture(scope="module")
def a_kit(made, tmp_path_factory):
    """A kit, to be left as it was."""
    folder = tmp_path_factory.mktemp("kits")
    with pytest.MonkeyPatch.context() as patch:
        asked.__wrapped__(patch)
        return write_kit(made, folder / "kit")


def test_what_changes_in_the_image_changes_the_name_of_its_configs(a_kit, made, tmp_path):
    (tmp_path / "rows.txt").write_text("other rows\n")
    kits = [
        a_kit,
        write_kit(made, tmp_path / "warm", texts=tmp_path / "rows.txt"),
        write_kit(
            made, tmp_path / "image", settings=kit_settings(tf_serving="2.18.0", queue_ms=10_000)
        ),
    ]
    names = set()
    for kit in kits:
        read = [
            yaml.safe_load((kit / f"kubernetes/{name}.yaml").read_text())
            for name in ("configmap", "deployment", "kustomization")
        ]
        config, deployment, kustomization = read
        (volume,) = (
            volume["configMap"]["name"]
            for volume in deployment["spec"]["template"]["spec"]["volumes"]
            if volume["name"] == "config"
        )
        name = f"tf-serving-{kustomization['images'][0]['newTag']}"
        assert config["metadata"]["name"] == volume == name and config["immutable"] is True
        names.add(name)
    assert len(names) == len(kits)
    # TF Serving's buckets of waiting end at 100 * 1.2 ** 51 microseconds; above nothing fires.
    rules = yaml.safe_load((kits[-1] / "prometheus/rules.yml").read_text())["groups"][0]["rules"]
    (long,) = [rule for rule in rules if rule["alert"] == "ServingQueueLong"]
    assert long["expr"].endswith("> 1000000") and "longer than 1000 ms" in str(long["annotations"])


def test_missing_files_and_warm_up_are_found(made, chosen, tmp_path):
    kit = write_kit(made, tmp_path / "kit")
    checks.check_kit(kit, sizes={"news": chosen})
    write_warmup(
        kit / "models/news/3", ["a"], Manifest((), 8), ["serving_default", "vector"], sizes=[1, 32]
    )
    with pytest.raises(RuntimeError, match=r"vector: no request of \[2, 3, 4, 6, 8, 12, 16, 24\]"):
        checks.check_kit(kit, sizes={"news": chosen})
    (kit / "models/news/3" / WARMUP_FILE).unlink()
    (kit / "smoke.sh").unlink()
    with pytest.raises(RuntimeError, match="smoke.sh: it is missing") as caught:
        checks.check_kit(kit, sizes={"news": chosen})
    assert "it has no request for serving_default" in str(caught.value)
