"""`tfmodel rollout` on the model of a run: compared on its test part, texts and labelled rows.

Run: pytest tests/serve/test_rollout_command.py
"""

import contextlib
import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_run
from small_servable import copy_version, until

import tfmodel as tm
from tfmodel.config import ConfigError
from tfmodel.serve import Client, Proxy, Server, serve_settings
from tfmodel.serve.rollout import (
    Rollout,
    labelled_rows,
    manifest_of,
    run_rows,
    text_rows,
    write_first_config,
)


@pytest.fixture(scope="module")
def base(finished, tmp_path_factory):
    """The folder of a version."""
    base = tmp_path_factory.mktemp("versions") / "savedmodel"
    base.mkdir()
    copy_version(finished / "runs/small/export/savedmodel/1", base / "1")
    return base


@pytest.fixture(scope="module")
def versions(finished, base):
    """Versions 1 and 3 alike; 2 takes one label for another."""
    from tfmodel.export import export_savedmodel

    loaded = tm.tasks.load_model(finished / "runs/small/model")
    head = loaded.model.get_layer("head")
    head.set_weights([weight[..., np.array([1, 0, 2])] for weight in head.get_weights()])
    export_savedmodel(
        loaded.model,
        loaded.tokenizer,
        base,
        labels=loaded.labels,
        max_length=loaded.max_length,
    )
    copy_version(base / "1", base / "3")
    return base


@pytest.fixture
def served(versions, tmp_path, monkeypatch):
    """A server that is told over gRPC; its address. The tests' folder is the current one."""
    from tfmodel.serve.server import policy_of

    monkeypatch.chdir(tmp_path)
    settings = serve_settings(rest_port=0, grpc_port=0)
    with Server(versions, policy=policy_of("1"), settings=settings) as server:
        yield server


@pytest.mark.slow
def test_a_worse_version_is_seen_and_a_good_one_promoted(tfmodel, finished, base, served):
    server = ("--server", f"grpc://{served.grpc_address}")
    run, file = str(finished / "runs/small"), "models.config"
    done = tfmodel("rollout", "start", file, 2, *server, "--base", base, "--stable", 1)
    assert done.code == 0, done.err
    assert "version 2 answers beside 1" in done.out and "labels/stable" in done.out
    rule = ("--min-rows", "10", "--max-latency-ratio", "50", "--latency-rows", "20")
    done = tfmodel("rollout", "compare", file, "--run", run, *rule)
    assert done.code == 1 and "its accuracy is" in done.out and "has not passed" in done.err
    assert "Answered otherwise" in Path("models.config.rollout/model.html").read_text("utf-8")
    status = json.loads(tfmodel("rollout", "status", file, "--json").out)
    assert status["server"]["labels"] == {"stable": 1, "canary": 2}
    assert status["rollout"]["comparison"]["passed"] is False
    # No text of anybody's is kept but in the report.
    texts = run_rows(run, manifest_of(base / "1")).split.texts
    assert not any(text in json.dumps(status) for text in texts)
    right = json.loads((finished / "runs/small/metrics.json").read_text())["test"]["accuracy"]
    compared = status["rollout"]["comparison"]
    assert compared["quality"]["accuracy"]["old"] == pytest.approx(right)
    assert compared["agreement"]["agreement"] < 0.7
    done = tfmodel("rollout", "promote", file)
    assert done.code == 2 and "its accuracy is" in done.err
    done = tfmodel("rollout", "rollback", file)
    assert done.code == 0 and "version 1 is in service, 2 is not served" in done.out
    done = tfmodel("rollout", "compare", file, "--run", run, *rule)
    assert done.code == 2 and "to compare. Received: one that is rolled back" in done.err
    # The whole way in one command, by the rule.
    done = tfmodel("rollout", "run", file, 2, "--run", run, *rule)
    assert done.code == 1 and "was rolled back" in done.err
    assert "version 1 is in service" in done.out
    done = tfmodel("rollout", "run", file, 3, "--run", run, *rule, "--min-agreement", "1")
    assert done.code == 0, done.err
    assert "passed: version 3 may be promoted" in done.out
    done = tfmodel("rollout", "status", file)
    assert "model: version 3 after 1: promoted" in done.out
    assert "label stable: version 3\n" in done.out and "version 3: AVAILABLE" in done.out
    assert tfmodel("rollout", "run", file, 3, "--run", run, *rule).code == 0
    assert tfmodel("rollout", "finish", file).code == 0
    assert next(iter(served.models)).live == [3]


@pytest.mark.slow
@pytest.mark.parametrize("is_proxy", [False, True], ids=["server", "proxy"])
def test_compared_by_what_clients_ask(tfmodel, versions, tmp_path, monkeypatch, is_proxy):
    """Copies are asked beside the answers, over both doors; then they, and the requests, tell."""
    monkeypatch.chdir(tmp_path)
    write_first_config("models.config", "model", versions, 1)
    url, file = "sqlite:///feedback.db", "models.config"
    kept = {"database": url, "mirror": 1.0}
    doors = {"rest_port": 0, "grpc_port": 0, "poll_seconds": 0.05}
    with contextlib.ExitStack() as stack:
        own = {} if is_proxy else {"feedback": kept}
        settings = serve_settings(**doors, **own)
        server = asked = stack.enter_context(Server(config_file=file, settings=settings))
        if is_proxy:
            settings = serve_settings(**doors, feedback=kept)
            behind = {"upstream_grpc": server.grpc_address, "models": {"model": versions}}
            asked = stack.enter_context(Proxy(server.rest_address, **behind, settings=settings))
        rollout = Rollout(file, server=f"grpc://{server.grpc_address}")
        rollout.start(2)
        texts = [text for text, _ in small_run.rows()][:40]
        for address in (f"http://{asked.rest_address}", f"grpc://{asked.grpc_address}"):
            with Client(address, label="stable", batch_size=4) as client:
                answers = client.predict(texts)
                for answer in answers[:8]:
                    client.feedback(answer, label=answer.label)
            # Of version 2 by itself no copy is made.
            with Client(address, version=2) as client:
                client.predict(texts[:4])
        copied = ':tfmodel:serving:mirrored_requests{model_name="model",outcome="compared"} 20'
        until(lambda: copied in asked.metrics.page())
        until(lambda: not asked._recorder._copies)
        rule = ("--min-rows", "10", "--max-latency-ratio", "100", "--latency-rows", "10")
        done = tfmodel("rollout", "compare", file, "--mirrored", url, *rule)
        assert done.code == 1, done.err
        assert "80 rows of mirrored requests" in done.out and "accuracy: of 16 rows" in done.out
        mirrored = rollout.state.comparison
        assert mirrored["quality"]["accuracy"]["old"] == 1.0 and "p99 ms" in done.out
        assert mirrored["latency"]["requests"] == 20 and mirrored["failed_requests"] == 0
        # Asked once more, the versions say the same.
        done = tfmodel("rollout", "compare", file, "--feedback", url, *rule)
        assert done.code == 1 and "80 rows of recorded requests" in done.out, done.err
        again = rollout.state.comparison
        for figures in (mirrored, again):
            assert figures["agreement"]["agreement"] == pytest.approx(
                mirrored["agreement"]["agreement"]
            )
        assert again["corrected_rows"] == 8  # equal texts once
        done = tfmodel("rollout", "compare", file, "--mirrored", url, "--since", "2999-01-01")
        assert done.code == 2 and "since 2999-01-01. Received: none" in done.err
        done = tfmodel("rollout", "compare", file, "--run", "x", "--since", "2026-01-01")
        assert done.code == 2 and "--since: expected beside --feedback" in done.err
        rollout.rollback()


def test_rows_of_every_kind(finished, base, tmp_path):
    manifest = manifest_of(base / "1")
    rows = run_rows(finished / "runs/small", manifest)
    assert rows.is_labelled and {*rows.split.labels} == {*small_run.TOPICS}
    assert len(run_rows(finished / "runs/small", manifest, part="train", most=7)) == 7
    path = tmp_path / "texts.txt"
    path.write_text("one\n\ntwo \u2028 x\nthree\n", "utf-8")
    rows = text_rows(path, manifest)
    assert rows.split.texts == ["one", "two \u2028 x", "three"] and not rows.is_labelled
    path = tmp_path / "rows.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = [(text, f" {label} ") for text, label in small_run.rows()]
        csv.writer(file).writerows([("said", "topic"), *table])
    assert text_rows(path, manifest, text="said", most=5).split.texts[0] == table[0][0]
    rows = labelled_rows(path, manifest, fields={"text": "said", "label": "topic"})
    assert rows.split.labels == [label.strip() for _, label in table]
    assert labelled_rows(path, manifest, fields={}).split == rows.split  # by a look
    mistakes = [
        (lambda: text_rows(tmp_path / "no.txt", manifest), "expected a file of texts"),
        (lambda: text_rows(tmp_path / "no.pdf", manifest), "must end in"),
        (lambda: text_rows(path, manifest, text="x"), "a text in the field x"),
        (lambda: run_rows(tmp_path / "no", manifest), "expected a run folder"),
        (lambda: run_rows(finished / "runs/small", manifest, part="x"), "--part to be one of"),
        (lambda: labelled_rows(path, manifest, fields={"text": "x", "label": "y"}), "x"),
    ]
    for call, words in mistakes:
        with pytest.raises(ConfigError, match=words):
            call()
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ConfigError, match="expected texts. Received: none"):
        text_rows(tmp_path / "empty.txt", manifest)


def test_mistakes(tfmodel, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = "models.config"
    assert tfmodel("rollout").code == 2
    cases = [
        (["start", config, "2"], "expected a file of models"),
        (["start", config, "2", "--base", base], "or --stable NUMBER beside --base"),
        (["start", config, "2", "--base", base, "--stable", 7], "the version 7 of --stable"),
        (["status", config], "expected a file of models"),
    ]
    for arguments, words in cases:
        done = tfmodel("rollout", *arguments)
        assert (done.code, words in done.err) == (2, True), done.err
        assert not (tmp_path / config).exists()
    shutil.copytree(base, tmp_path / "savedmodel")
    (tmp_path / config).write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{tmp_path}/savedmodel" '
        'model_platform: "tensorflow" } }'
    )
    cases = [
        (
            ["compare", config, "--texts", "x.txt"],
            "expected a rollout that is canary to compare. Received: none",
        ),
        (["compare", config], "--texts --labelled --run --feedback --mirrored is required"),
        (["promote", config, "--wait-seconds", "0"], "--wait-seconds must be above 0"),
        (["promote", config, "--wait-seconds", "nan"], "--wait-seconds must be above 0"),
        (["promote", config, "--wait-seconds", "inf"], "--wait-seconds must be above 0"),
        (["run", config, "2", "--run", "x", "--max-drop", "2"], "--max-drop: expected 0 to 1"),
        (["run", config, "2", "--run", "x", "--most", "0"], "--most must be 1 or more"),
        (["run", config, "1", "--run", "x"], "expected a run folder"),
        (["promote", config, "--server", "localhost:1"], "Expected an address such as"),
    ]
    for arguments, words in cases:
        done = tfmodel("rollout", *arguments)
        assert (done.code, words in done.err) == (2, True), done.err
    done = tfmodel("rollout", "start", config, "1", "--server", "http://127.0.0.1:1")
    assert done.code == 1 and "The server says UNAVAILABLE" in done.err
    done = tfmodel("rollout", "status", config, "--server", "http://127.0.0.1:1")
    assert done.code == 0 and "no rollout yet" in done.out and "does not answer" in done.out


@pytest.mark.slow
def test_the_guide_can_be_followed(finished, tmp_path, monkeypatch, capsys):
    page = Path(__file__).parents[2] / "docs/rollout.md"
    shutil.copytree(finished / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(
        r"<!-- test -->\n```python\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M
    )
    exec(compile(block.replace("runs/reviews", "runs/small"), "rollout.md", "exec"), {})
    assert "passed: version 2 may be promoted" in capsys.readouterr().out
