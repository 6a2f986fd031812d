"""Two devices of one process take the step that one device takes; TF_CONFIG and the meeting."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml

from tfmodel.config import ConfigError
from tfmodel.train.distribute import choose_strategy
from tfmodel.train.distribute.cluster import Cluster
from tfmodel.train.distribute.meeting import meet

HERE = Path(__file__).parent


def trained(folder: Path, devices: int, *cases: str, **environment: str) -> dict:
    """What `toy_distributed.py` wrote, in a process of its own: devices are fixed at the start."""
    out = folder / f"{devices}.json"
    command = [sys.executable, HERE / "toy_distributed.py", out, str(devices), *cases]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return json.loads(out.read_text())


def assert_same_training(found: dict, expected: dict) -> None:
    assert np.allclose(found["steps"], expected["steps"], atol=1e-5)
    for mine, theirs in zip(found["epochs"], expected["epochs"], strict=True):
        assert mine.keys() == theirs.keys()
        assert all(abs(mine[name] - theirs[name]) < 1e-5 for name in theirs)
    for mine, theirs in zip(found["weights"], expected["weights"], strict=True):
        # Where a gradient is all but zero, Adam's first steps make much of its rounding.
        assert np.allclose(mine, theirs, atol=1e-4)


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[dict, dict]:
    folder = tmp_path_factory.mktemp("devices")
    found = trained(folder, 2, "parts", "fgm", "not a number", "dropout", "whole")
    return found, found["alone"]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["parts", "fgm"])
def test_two_devices_train_as_one(both, case):
    two, one = both[0][case], both[1][case]
    assert two["replicas"] == 2
    assert two["replicas_equal"]
    assert_same_training(two, one)


@pytest.mark.slow
def test_a_step_that_is_not_a_number_changes_no_copy_of_the_weights(both):
    two, one = both[0]["not a number"], both[1]["not a number"]
    assert two["iterations"] == one["iterations"] == 8  # of 10: one row, in each epoch
    assert two["replicas_equal"]
    assert np.isnan(two["steps"][2][0])
    assert all(
        np.allclose(a, b, atol=1e-4) for a, b in zip(two["weights"], one["weights"], strict=True)
    )


@pytest.mark.slow
def test_each_replica_drops_values_of_its_own(both):
    states = both[0]["dropout"]["random_states"]
    assert states
    for first, second in states:
        assert first[0] == second[0]  # one seed
        assert first[1] != second[1]  # and places far apart
    assert both[0]["dropout"]["replicas_equal"]


@pytest.mark.slow
def test_what_is_continued_is_what_would_have_been(both):
    whole, begun, resumed = (both[0][name] for name in ("whole", "begun", "resumed"))
    assert len(begun["steps"]) == 7  # in the second epoch of 5
    assert len(resumed["steps"]) == 3
    assert begun["steps"] + resumed["steps"] == whole["steps"]
    assert resumed["epochs"][-1] == whole["epochs"][-1]
    assert resumed["weights"] == whole["weights"]
    assert resumed["replicas_equal"]


def test_more_devices_than_there_are_is_a_mistake(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ConfigError, match="train.devices: expected no more .* Received: 99"):
        choose_strategy(99)
    assert choose_strategy("all").num_replicas_in_sync >= 1


# --- TF_CONFIG ----------------------------------------------------------------------------

TWO = ["10.0.0.1:23456", "10.0.0.2:23456"]


def config(**task) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": TWO}, "task": task})}


def test_the_first_worker_is_the_chief():
    cluster = Cluster.from_environment(config(type="worker", index=1))
    assert (cluster.addresses, cluster.rank, cluster.is_chief) == (tuple(TWO), 1, False)
    assert cluster.address(0) == ("10.0.0.1", 23456)
    assert Cluster.from_environment(config(type="worker", index=0)).is_chief


def test_a_chief_comes_before_the_workers():
    text = {"cluster": {"worker": TWO, "chief": ["c:1"]}, "task": {"type": "worker", "index": 0}}
    assert Cluster.from_environment({"TF_CONFIG": json.dumps(text)}).rank == 1


@pytest.mark.parametrize("environment", [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": "  "}])
def test_without_tf_config_there_are_no_workers(environment):
    assert Cluster.from_environment(environment) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no JSON"),
        ("[]", 'no "cluster"'),
        ('{"task": {}}', 'no "cluster"'),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', 'no "task"'),
        (json.dumps({"cluster": {"worker": TWO}, "task": {"type": "worker", "index": 2}}), "2"),
        (json.dumps({"cluster": {"worker": TWO}, "task": {"type": "worker", "index": "1"}}), "'1'"),
        (json.dumps({"cluster": {"worker": TWO}, "task": {"type": "chief", "index": 0}}), "chief"),
        (json.dumps({"cluster": {"ps": TWO}, "task": {"type": "ps", "index": 0}}), "type ps"),
        ('{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}', "no list"),
        ('{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}', "host:port"),
        (
            '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
            "twice",
        ),
    ],
)
def test_what_is_wrong_in_tf_config_is_said(text, words):
    with pytest.raises(ConfigError, match="TF_CONFIG: expected .* Received: ") as found:
        Cluster.from_environment({"TF_CONFIG": text})
    assert words in str(found.value)


def test_the_kubernetes_manifest_sets_tf_config():
    guide = (HERE.parents[1] / "docs" / "distributed.md").read_text()
    manifest = guide.split("```yml\n")[1].split("```")[0]
    service, job = yaml.safe_load_all(manifest)
    spec = job["spec"]["template"]["spec"]
    assert service["metadata"]["name"] == spec["subdomain"]
    (container,) = spec["containers"]
    script = container["args"][0].replace("exec tfmodel run reviews.yaml", 'printf %s "$TF_CONFIG"')
    for rank in range(job["spec"]["completions"]):
        found = subprocess.run(
            [*container["command"], script],
            env={**os.environ, "JOB_COMPLETION_INDEX": str(rank)},
            capture_output=True,
            text=True,
            check=True,
        )
        cluster = Cluster.from_environment({"TF_CONFIG": found.stdout})
        assert cluster.rank == rank
        assert cluster.addresses == ("reviews-0.reviews:23456", "reviews-1.reviews:23456")


# --- the meeting --------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def meeting(facts: list[dict], *, ranks=None, timeout_seconds=10.0) -> list:
    """What each worker's `meet` raised, or None."""
    addresses = tuple(f"127.0.0.1:{free_port()}" for _ in facts)
    ranks = range(len(facts)) if ranks is None else ranks
    found: list = [None] * len(ranks)

    def take_part(number, rank):
        try:
            meet(Cluster(addresses, rank), facts[rank], timeout_seconds=timeout_seconds)
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=take_part, args=each) for each in enumerate(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_workers_that_agree_meet():
    assert meeting([{"seed": 1}] * 3) == [None] * 3


def test_a_worker_with_another_config_is_named_to_all():
    found = meeting([{"seed": 1, "keras": "3"}, {"seed": 1, "keras": "3"}, {"seed": 2}])
    assert all(isinstance(error, ConfigError) for error in found)
    for words in ("seed is 1 on 127.0.0.1", "and 2 on", "keras is 3", "not there"):
        assert words in str(found[0])
    assert {str(error) for error in found} == {str(found[0])}


def test_a_worker_that_does_not_come_is_named():
    found = meeting([{}, {}, {}], ranks=[0, 1], timeout_seconds=0.5)
    assert all(isinstance(error, TimeoutError) for error in found)
    assert "nothing of 127.0.0.1:" in str(found[0])


def test_a_chief_that_does_not_come_is_named():
    (found,) = meeting([{}, {}], ranks=[1], timeout_seconds=0.5)
    assert isinstance(found, TimeoutError)
    assert "Expected the chief, 127.0.0.1:" in str(found)


def test_two_workers_with_one_index_are_refused():
    found = meeting([{}, {}, {}], ranks=[0, 1, 1])
    assert all(isinstance(error, ConfigError) for error in found)
    assert "two workers that say they are" in str(found[0])


def test_a_taken_port_is_said():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        cluster = Cluster((f"127.0.0.1:{taken.getsockname()[1]}", "127.0.0.1:1"), 0)
        with pytest.raises(ConfigError, match="expected a free port .* with this index"):
            meet(cluster, {}, timeout_seconds=1)


def test_a_stranger_at_the_door_is_no_worker():
    addresses = tuple(f"127.0.0.1:{free_port()}" for _ in range(2))
    found = []

    def chief():
        meet(Cluster(addresses, 0), {}, timeout_seconds=10)
        found.append("met")

    thread = threading.Thread(target=chief)
    thread.start()
    for text in (b"GET / HTTP/1.1\r\n\r\n\n", b'{"rank": 7}\n', b"[]\n"):
        for _ in range(100):
            try:
                with socket.create_connection(Cluster(addresses, 0).address(0)) as stranger:
                    stranger.sendall(text)
                break
            except OSError:
                threading.Event().wait(0.02)
    meet(Cluster(addresses, 1), {}, timeout_seconds=10)
    thread.join()
    assert found == ["met"]
