"""Workers in processes of their own: `tfmodel run` and a `fit`, on one host and over a network."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import small_run
from needs import give_up

from tfmodel.train.distribute.cluster import Cluster

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


_started: list[Workers] = []


@pytest.fixture(autouse=True)
def none_is_left():
    """End what a failed test has left running."""
    yield
    while _started:
        _started.pop().end()


class Workers:
    """Processes with TF_CONFIG set, and what they say."""

    def __init__(self, folder: Path, addresses: list[str] | None = None, before=lambda rank: []):
        self.folder = folder
        self.addresses = addresses or [f"127.0.0.1:{port}" for port in free_ports(2)]
        self.before = before
        self.processes: list[subprocess.Popen] = []
        _started.append(self)

    def start(self, *command: object, of_rank=lambda rank: []) -> Workers:
        self.end()
        self.processes = []
        for rank in range(len(self.addresses)):
            self.start_one(rank, *command, *of_rank(rank))
        return self

    def start_one(self, rank: int, *command: object) -> None:
        task = {"type": "worker", "index": rank}
        text = json.dumps({"cluster": {"worker": self.addresses}, "task": task})
        with open(self.folder / f"worker{rank}.log", "w") as log:
            process = subprocess.Popen(
                [*self.before(rank), sys.executable, *map(str, command)],
                cwd=self.folder,
                env={**os.environ, "TF_CONFIG": text, "TF_CPP_MIN_LOG_LEVEL": "3"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)

    def said(self, rank: int) -> str:
        return (self.folder / f"worker{rank}.log").read_text()

    def wait_until_said(self, rank: int, words: str, seconds: float = 180) -> None:
        end = time.monotonic() + seconds
        while words not in self.said(rank):
            assert time.monotonic() < end, self.said(rank)
            assert self.processes[rank].poll() is None, self.said(rank)
            time.sleep(0.1)

    def codes(self, seconds: float = 240) -> list[int]:
        end = time.monotonic() + seconds
        try:
            return [each.wait(max(end - time.monotonic(), 0.1)) for each in self.processes]
        finally:
            self.end()

    def end(self) -> None:
        for each in self.processes:
            each.kill()
            each.wait()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A config with an encoder without dropout, so that one process and two do the same."""
    small_run.write_encoder(tmp_path / "encoder")
    path = tmp_path / "encoder" / "config.json"
    config = json.loads(path.read_text())
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        config[name] = 0.0
    path.write_text(json.dumps(config))
    small_run.write_rows(tmp_path / "train.csv", small_run.rows())
    text = small_run.CONFIG.replace("  tflite: [int8]\n", "  savedmodel: true\n")
    (tmp_path / "small.yaml").write_text(
        text.replace("learning_rate: 0.01", "learning_rate: 0.003")
    )
    return tmp_path


CLI = ("-m", "tfmodel.cli", "run", "small.yaml")


def steps(run: Path) -> list[float]:
    return [each["loss"] for each in json.loads((run / "history.json").read_text())["steps"]]


def test_two_workers_run_a_config_as_one_process_does(project):
    parts = ("train.accumulation_steps=2", "train.batch_size=15")
    alone = subprocess.run(
        [sys.executable, *CLI, "run=runs/one", *parts], cwd=project, capture_output=True, text=True
    )
    assert alone.returncode == 0, alone.stderr
    workers = Workers(project).start(*CLI, "run=runs/two", *parts)
    assert workers.codes() == [0, 0], workers.said(0) + workers.said(1)
    assert "trained along" in workers.said(1)
    assert "epoch" not in workers.said(1)
    one, two = project / "runs" / "one", project / "runs" / "two"
    assert np.allclose(steps(two), steps(one), atol=1e-5)
    figures = [json.loads((run / "metrics.json").read_text()) for run in (one, two)]
    for name in ("accuracy", "log_loss"):
        assert figures[0]["dev"][name] == pytest.approx(figures[1]["dev"][name], abs=1e-4)
    assert (two / "export" / "savedmodel").is_dir()
    # Started again there is nothing to train, and all end.
    workers = Workers(project).start(*CLI, "run=runs/two", *parts)
    assert workers.codes() == [0, 0], workers.said(0) + workers.said(1)
    assert "nothing to train" in workers.said(1)
    # A chief that was killed after the weights were saved needs nobody.
    workers = Workers(project)
    workers.start_one(0, *CLI, "run=runs/two", *parts)
    assert workers.codes() == [0], workers.said(0)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_other_and_all_continue(project, victim):
    command = (
        *CLI,
        "run=runs/killed",
        "export=null",
        "train.epochs=6",
        "train.patience=null",
        "train.checkpoint_seconds=0.001",
    )
    alone = [sys.executable, *command, "run=runs/whole"]
    subprocess.run(alone, cwd=project, check=True, capture_output=True)
    workers = Workers(project).start(*command)
    workers.wait_until_said(0, "epoch 2/6:")
    workers.processes[victim].send_signal(signal.SIGKILL)
    began = time.monotonic()
    assert workers.processes[1 - victim].wait(90) == 1
    assert time.monotonic() - began < 60
    said = workers.said(1 - victim)
    assert f"Worker {victim + 1} of 2 ({workers.addresses[victim]}) ended" in said
    assert "Traceback" not in said
    workers.start(*command)
    assert workers.codes() == [0, 0], workers.said(0) + workers.said(1)
    run = project / "runs" / "killed"
    (resumed,) = json.loads((run / "metrics.json").read_text())["train"]["resumed_at_steps"]
    assert 0 < resumed
    assert np.allclose(steps(run), steps(project / "runs" / "whole"), atol=1e-4)


def test_sigterm_to_one_worker_saves_and_ends_all(project):
    command = (*CLI, "run=runs/asked", "export=null", "train.epochs=50", "train.patience=null")
    workers = Workers(project).start(*command)
    workers.wait_until_said(0, "epoch 1/50:")
    workers.processes[1].send_signal(signal.SIGTERM)
    assert workers.codes() == [143, 143], workers.said(0) + workers.said(1)
    assert (project / "runs" / "asked" / "checkpoints" / "last").is_dir()


def test_workers_with_other_settings_end_with_what_differs(project):
    of_rank = lambda rank: [f"train.epochs={rank + 1}"]  # noqa: E731
    workers = Workers(project).start(*CLI, of_rank=of_rank)
    assert workers.codes() == [2, 2]
    for rank in (0, 1):
        assert "train.epochs is 1 on 127.0.0.1" in workers.said(rank)
        assert "Traceback" not in workers.said(rank)


def test_a_worker_that_is_not_there_is_waited_for_and_named(project):
    workers = Workers(project)
    workers.start_one(0, *CLI, "train.worker_timeout_seconds=3")
    assert workers.codes() == [1]
    assert "Expected all 2 workers within 3 s" in workers.said(0)
    assert workers.addresses[1] in workers.said(0)


def test_a_worker_without_the_chiefs_run_folder_says_so(project):
    command = (*CLI, "export=null")
    workers = Workers(project).start(*command, of_rank=lambda rank: [f"run=runs/of{rank}"])
    assert workers.codes() == [1, 2], workers.said(0) + workers.said(1)
    assert "expected the run folder that the chief writes" in workers.said(1)
    assert "that all workers share" in workers.said(1)


# --- a `fit` of one's own, and a network between ------------------------------------------

CASES = ("plain", "parts", "fgm", "keras", "sum")


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("alone") / "out.json"
    environment = {name: text for name, text in os.environ.items() if name != "TF_CONFIG"}
    command = [sys.executable, HERE / "toy_distributed.py", out, "0", *CASES]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return json.loads(out.read_text())


def assert_same(folder: Path, alone: dict) -> None:
    found = [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]
    for case in CASES:
        for mine in found:
            assert np.allclose(mine[case]["steps"], alone[case]["steps"], atol=1e-5), case
            for epoch, expected in zip(mine[case]["epochs"], alone[case]["epochs"], strict=True):
                for name, value in expected.items():
                    assert epoch[name] == pytest.approx(value, abs=1e-5), (case, name)
        assert found[0][case]["weights"] == found[1][case]["weights"], case
    assert found[0]["workers"] == found[1]["workers"]
    assert len({worker["pid"] for worker in found[0]["workers"]}) == 2


def test_a_fit_in_two_processes(tmp_path, alone):
    workers = Workers(tmp_path)
    script = HERE / "toy_distributed.py"
    for rank in (0, 1):
        workers.start_one(rank, script, tmp_path / f"{rank}.json", "0", *CASES)
    assert workers.codes() == [0, 0], workers.said(0) + workers.said(1)
    assert_same(tmp_path, alone)


class Network:
    """Two network namespaces and a wire between them."""

    def __init__(self):
        self.names = [f"tfmodel{os.getpid()}-{rank}" for rank in (0, 1)]

    def __enter__(self) -> Network:
        wires = [f"tfm{os.getpid() % 100000}-{rank}" for rank in (0, 1)]
        try:
            for name in self.names:
                self._do("ip", "netns", "add", name)
            self._do("ip", "link", "add", wires[0], "type", "veth", "peer", "name", wires[1])
            for rank, (name, wire) in enumerate(zip(self.names, wires, strict=True)):
                self._do("ip", "link", "set", wire, "netns", name)
                inside = ("ip", "-n", name)
                self._do(*inside, "addr", "add", f"10.77.0.{rank + 1}/24", "dev", wire)
                self._do(*inside, "link", "set", wire, "up")
                self._do(*inside, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            words = getattr(error, "stderr", None) or str(error)
            give_up(f"network namespaces need root and iproute2: {words}")
        self.wires = wires
        return self

    def __exit__(self, *_) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def cut(self) -> None:
        self._do("ip", "-n", self.names[1], "link", "set", self.wires[1], "down")

    @staticmethod
    def _do(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, text=True)


def test_a_fit_in_two_network_namespaces(tmp_path, alone):
    with Network() as network:
        workers = Workers(
            tmp_path,
            ["10.77.0.1:23456", "10.77.0.2:23456"],
            before=lambda rank: ["ip", "netns", "exec", network.names[rank]],
        )
        script = HERE / "toy_distributed.py"
        for rank in (0, 1):
            workers.start_one(rank, script, tmp_path / f"{rank}.json", "0", *CASES)
        assert workers.codes() == [0, 0], workers.said(0) + workers.said(1)
    assert_same(tmp_path, alone)


def test_a_network_that_breaks_ends_all_workers(project):
    with Network() as network:
        workers = Workers(
            project,
            ["10.77.0.1:23456", "10.77.0.2:23456"],
            before=lambda rank: ["ip", "netns", "exec", network.names[rank]],
        )
        workers.start(*CLI, "export=null", "train.epochs=500", "train.patience=null")
        workers.wait_until_said(0, "epoch 1/500:")
        network.cut()
        began = time.monotonic()
        assert workers.codes(150) == [1, 1], workers.said(0) + workers.said(1)
        assert time.monotonic() - began < 120
    for rank in (0, 1):
        assert "no longer reached" in workers.said(rank)


def test_addresses_are_read_as_tensorflow_reads_them():
    text = '{"cluster": {"worker": ["[::1]:9", "h:1"]}, "task": {"type": "worker", "index": 0}}'
    assert Cluster.from_environment({"TF_CONFIG": text}).address(0) == ("::1", 9)
