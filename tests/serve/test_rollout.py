"""A version is put beside another, promoted and taken back, by the file and over gRPC, and after
an interruption at any point.

Run: pytest tests/serve/test_rollout.py
"""

import contextlib
import fcntl
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from small_servable import ask, copy_version, until, write_half_plus

from tfmodel.config import ConfigError
from tfmodel.serve import Client, Server, ServingError, serve_settings
from tfmodel.serve.models_config import read_models_config
from tfmodel.serve.rollout import Live, Rollout, VersionRefused, write_first_config
from tfmodel.serve.rollout.state import folder_of, read_state

LABELS = ("stable", "canary")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Versions that add 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("made")
    return {number: write_half_plus(folder / str(number), number) for number in (1, 2, 3)}


@pytest.fixture
def config(made, tmp_path):
    """A `models.config` with version 1 in service; 2 lies beside it."""
    base = tmp_path / "export" / "savedmodel"
    base.mkdir(parents=True)
    for number in (1, 2):
        copy_version(made[number], base / str(number))
    write_first_config(tmp_path / "models.config", "model", base, 1)
    return tmp_path / "models.config"


def base_of(config):
    return config.parent / "export/savedmodel"


@contextlib.contextmanager
def serving(config):
    settings = serve_settings(rest_port=0, grpc_port=0, poll_seconds=0.05, batch_threads=1)
    with Server(config_file=config, settings=settings) as server:
        yield server


@pytest.fixture
def server(config):
    with serving(config) as server:
        yield server


def rollout(config, server, door="http", **options):
    address = server.rest_address if door == "http" else server.grpc_address
    return Rollout(config, server=f"{door}://{address}", wait_seconds=20, **options)


def labels(server):
    """What each label answers: the number of its version."""
    found = {}
    for label in LABELS:
        path = f"/v1/models/model/labels/{label}:predict"
        status, answer = ask(server.rest_address, path, {"instances": [0.0]})
        found[label] = answer["predictions"][0] if status == 200 else status
    return found


def live(server):
    return next(iter(server.models)).live


def written(config):
    (entry,) = read_models_config(config).model_config_list.config
    return [*entry.model_version_policy.specific.versions], dict(entry.version_labels)


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_promoted_finished_and_taken_back(config, server, door):
    trial = rollout(config, server, door)
    assert labels(server) == {"stable": 1.0, "canary": 1.0} and live(server) == [1]
    assert trial.start(2).stage == "canary"
    assert labels(server) == {"stable": 1.0, "canary": 2.0} and live(server) == [1, 2]
    assert written(config) == ([1, 2], {"stable": 1, "canary": 2})
    with pytest.raises(ConfigError, match="a comparison that version 2 has passed. Received: no"):
        trial.promote()
    assert trial.promote(anyway=True).stage == "promoted"
    assert labels(server) == {"stable": 2.0, "canary": 2.0} and live(server) == [1, 2]
    assert trial.rollback().stage == "rolled back"
    assert labels(server) == {"stable": 1.0, "canary": 1.0} and live(server) == [1]
    trial.start(2)
    trial.promote(anyway=True)
    assert trial.finish().stage == "finished" and live(server) == [2]
    # Though it has been unloaded.
    assert trial.rollback().stage == "rolled back" and live(server) == [1]
    assert labels(server) == {"stable": 1.0, "canary": 1.0}
    assert written(config) == ([1], {"stable": 1, "canary": 1})
    stages = [entry["stage"] for entry in trial.state.history]
    assert stages == [
        *("starting", "canary", "promoting", "promoted", "rolling back", "rolled back"),
        *("starting", "canary", "promoting", "promoted", "finishing", "finished"),
        *("rolling back", "rolled back"),
    ]


@pytest.mark.slow
def test_every_command_can_be_given_twice(config, server):
    trial = rollout(config, server)
    for step in (
        lambda: trial.start(2),
        lambda: trial.promote(anyway=True),
        trial.finish,
        trial.rollback,
    ):
        first = step()
        content = config.read_bytes()
        assert step() == first and config.read_bytes() == content


class Killed(BaseException):
    """As a signal would end it, at any line."""


STEPS = {
    "start": lambda trial: trial.start(2),
    "promote": lambda trial: trial.promote(anyway=True),
    "rollback": lambda trial: trial.rollback(),
    "finish": lambda trial: trial.finish(),
}


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_write_it_goes_on_or_back(config, step, monkeypatch):
    """Killed before each write of the file or the state in turn: `stable` always answers."""
    from tfmodel.serve.rollout import control
    from tfmodel.serve.rollout import live as lives

    before = {"start": [], "promote": ["start"], "finish": ["start", "promote"]}
    before["rollback"] = before["finish"]
    with serving(config) as server:
        failures, stop = [], threading.Event()

        def asking():
            while not stop.is_set():
                found = labels(server)["stable"]
                if found not in (1.0, 2.0):
                    failures.append(found)

        client = threading.Thread(target=asking)
        client.start()
        try:
            for kill_at in range(1, 20):
                trial = rollout(config, server)
                for earlier in before[step]:
                    STEPS[earlier](trial)
                count = 0

                def counted(function):
                    def write(*arguments):
                        nonlocal count
                        count += 1
                        if count == kill_at:  # noqa: B023
                            raise Killed
                        return function(*arguments)

                    return write

                with monkeypatch.context() as patch:
                    patch.setattr(lives, "write_models_config", counted(lives.write_models_config))
                    patch.setattr(control, "write_state", counted(control.write_state))
                    try:
                        STEPS[step](trial)
                        done = True
                    except Killed:
                        done = False
                if done:
                    break
                if kill_at % 2:
                    wanted = STEPS[step](trial).stage
                    ends = {"start": "canary", "promote": "promoted", "finish": "finished"}
                    assert wanted == ends.get(step, "rolled back")
                if trial.state is not None:
                    assert trial.rollback().stage == "rolled back"
                assert labels(server) == {"stable": 1.0, "canary": 1.0} or kill_at == 1
                assert live(server) == [1]
            assert kill_at > 2
        finally:
            stop.set()
            client.join()
    assert not failures


@pytest.mark.slow
@pytest.mark.parametrize("step", ["start", "promote", "rollback"])
def test_killed_by_the_system_at_any_write_it_goes_on(config, step):
    """SIGKILL before and after each file takes its place; then the same command again."""
    ends = {"start": "canary", "promote": "promoted", "rollback": "rolled back"}
    script = Path(__file__).parents[1] / "rollout_killed.py"
    with serving(config) as server:
        failures, stop = [], threading.Event()

        def asking():
            while not stop.wait(0.01):
                found = labels(server)["stable"]
                if found not in (1.0, 2.0):
                    failures.append(found)

        client = threading.Thread(target=asking)
        client.start()
        try:
            command = [sys.executable, script, config, f"http://{server.rest_address}", step]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        finally:
            stop.set()
            client.join()
        assert done.returncode == 0, done.stderr[-2000:]
        assert live(server) == [1] and labels(server) == {"stable": 1.0, "canary": 1.0}
    assert not failures
    points = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(points) > 6 and not points[-1]["killed"]
    assert all(point["killed"] for point in points[:-1])
    for point in points:
        assert (point["reached"], point["again"]) == (ends[step], ends[step])
        assert point["back"] == "rolled back" and point["labels"]["stable"] in (1, 2)
    # No half of a file is left behind, under whatever name.
    assert not [path for path in config.parent.rglob("*.partial-*") if path.is_file()]


def refuse_parity(version):
    parity = {"artifacts": {"savedmodel": {"path": f"savedmodel/{version.name}", "passed": False}}}
    (version.parents[1] / "parity.json").write_text(json.dumps(parity))


def warm_up_that_fails(version):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([-5000.0]))
    path = version / "assets.extra/tf_serving_warmup_requests"
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(log.SerializeToString())


def damage(version):
    path = version / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:1000])


BAD = {
    "does not answer as its model does": refuse_parity,
    "Its warm-up request 1 fails": warm_up_that_fails,
    "It is damaged": damage,
}


@pytest.mark.parametrize("words", BAD)
@pytest.mark.parametrize("checked_here", [True, False])
def test_a_bad_version_never_becomes_live(config, server, words, checked_here, monkeypatch):
    BAD[words](base_of(config) / "2")
    if not checked_here:  # then the server refuses it
        monkeypatch.setattr(Rollout, "_check", lambda *_: None)
    trial = rollout(config, server)
    with pytest.raises(VersionRefused, match=f"version 2: .*{words}"):
        trial.start(2)
    assert labels(server) == {"stable": 1.0, "canary": 1.0} and live(server) == [1]
    assert written(config) == ([1], {"stable": 1, "canary": 1})
    assert trial.state.stage == "refused" and words in trial.state.reason
    if checked_here:
        assert 2 not in next(iter(server.models)).states()
    with pytest.raises(ConfigError, match="that is canary to promote. Received: one that is refu"):
        trial.promote(anyway=True)


def test_one_that_was_mended_is_tried_again(config, server, made):
    version = base_of(config) / "2"
    aside = base_of(config) / ".aside"
    version.rename(aside)
    copy_version(made[3], version)
    damage(version)
    trial = rollout(config, server)
    with pytest.raises(VersionRefused):
        trial.start(2)
    version.rename(base_of(config) / ".damaged")
    aside.rename(version)
    assert trial.start(2).stage == "canary" and labels(server)["canary"] == 2.0


def test_labels_of_others_and_other_models_stay(config, made, tmp_path):
    config.write_text(
        "model_config_list {"
        f'config {{ name: "model" base_path: "{base_of(config)}" model_platform: "tensorflow" '
        "model_version_policy { specific { versions: 1 versions: 3 } } "
        'version_labels { key: "old" value: 3 } version_labels { key: "stable" value: 1 } }'
        f'config {{ name: "other" base_path: "{base_of(config)}" model_platform: "tensorflow" }} }}'
    )
    copy_version(made[3], base_of(config) / "3")
    with serving(config) as server:
        with pytest.raises(ConfigError, match="--model to be one of model, other"):
            rollout(config, server)
        trial = rollout(config, server, model="model")
        trial.start(2)
        trial.promote(anyway=True)
        trial.finish()
        model, other = read_models_config(config).model_config_list.config
        assert dict(model.version_labels) == {"old": 3, "stable": 2, "canary": 2}
        assert [*model.model_version_policy.specific.versions] == [2, 3]
        assert other.name == "other" and not other.version_labels
        assert {each.name for each in server.models} == {"model", "other"}


def test_a_policy_is_pinned_when_a_rollout_starts(config, made):
    """Of `newest` the version in service is no longer there: it comes back, and stays."""
    config.write_text(
        f'model_config_list {{ config {{ name: "model" base_path: "{base_of(config)}" '
        'model_platform: "tensorflow" } }'
    )
    with serving(config) as server:
        assert live(server) == [2]
        trial = rollout(config, server)
        with pytest.raises(ConfigError, match="in service beside 2. Received: none that answers"):
            trial.start(2)
        assert trial.start(2, stable=1).old == 1
        assert labels(server) == {"stable": 1.0, "canary": 2.0}
        copy_version(made[3], base_of(config) / "3")
        assert not threading.Event().wait(0.3) and live(server) == [1, 2]


def test_mistakes(config, server):
    trial = rollout(config, server)
    cases = [
        (lambda: trial.promote(), "a rollout that is canary to promote. Received: none"),
        (lambda: trial.rollback(), "a rollout to rollback. Received: none"),
        (lambda: trial.start(9), "expected the version 9. Received: 1, 2"),
        (lambda: trial.start(1), "another version than the one in service. Received: 1"),
        (lambda: trial.start(2, stable=2), "where the label stable is, version 1. Received: 2"),
        (lambda: Rollout(config, model="x"), "--model to be one of model. Received: 'x'"),
        (lambda: Rollout(config.with_name("no")), "expected a file of models"),
    ]
    for call, words in cases:
        with pytest.raises(ConfigError, match=words):
            call()
    trial.start(2)
    with pytest.raises(ConfigError, match="no rollout that is open. Received: that of version 2"):
        trial.start(3)
    with open(folder_of(config) / "lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="no other rollout at work"):
            trial.rollback()
    state = folder_of(config) / "model.json"
    for content in ("{}", '{"format": 1, "x": 2}', "[]"):
        state.write_text(content)
        with pytest.raises(ConfigError, match="expected the state of a rollout"):
            read_state(config, "model")


def test_a_server_that_does_not_follow_the_file(config):
    settings = serve_settings(rest_port=0, grpc_port=0, poll_seconds=0.05, batch_threads=1)
    with Server(base_of(config), settings=settings) as server:
        address = f"http://{server.rest_address}"
        trial = Rollout(config, server=address, wait_seconds=0.5)
        with pytest.raises(RuntimeError, match="expected version 1 to be live .* Does it follow"):
            trial.start(2)
        assert trial.state.stage == "starting"
        # Told over gRPC it goes on where it stopped.
        trial = Rollout(config, server=f"grpc://{server.grpc_address}", wait_seconds=20)
        assert trial.start(2).stage == "canary"
        assert labels(server) == {"stable": 1.0, "canary": 2.0}


@pytest.mark.slow
def test_a_server_that_is_away_for_a_while(config):
    with serving(config) as server:
        port = int(server.rest_address.rpartition(":")[2])
        trial = rollout(config, server)
        trial.start(2)
    settings = serve_settings(rest_port=port, grpc_port=0, poll_seconds=0.05, batch_threads=1)
    second = Server(config_file=config, settings=settings)
    starting = threading.Timer(0.7, second.start)
    starting.start()
    try:
        assert trial.promote(anyway=True).stage == "promoted"
        assert labels(second) == {"stable": 2.0, "canary": 2.0}
    finally:
        starting.join()
        second.stop()


def test_a_new_config_over_rest_is_refused(config, server):
    with Client(f"http://{server.rest_address}") as client:
        with pytest.raises(ConfigError, match="Expected a grpc:// address"):
            client.reload(read_models_config(config))
    with Client(f"grpc://{server.grpc_address}") as client:
        wanted = read_models_config(config)
        wanted.model_config_list.config[0].version_labels["new"] = 7
        with pytest.raises(ServingError) as refused:
            client.reload(wanted)
        assert refused.value.code == "FAILED_PRECONDITION"
        assert Live(config, "model", f"grpc://{server.grpc_address}").label("new") is None


def test_a_label_is_only_ever_on_a_version_that_answers(config, server):
    """As in TF Serving: a config that labels a version and loads it at once is told to wait."""
    trial = rollout(config, server)
    trial.start(2)
    with trial.live() as seen:
        assert (seen.label("stable"), seen.label("canary"), seen.label("x")) == (1, 2, None)
        assert seen.available() == {1, 2}
    (base_of(config) / "1").rename(base_of(config) / ".1")
    until(lambda: live(server) == [2])
    with pytest.raises(RuntimeError, match="expected version 1 to be live"):
        Rollout(config, wait_seconds=0.5).rollback()
    assert labels(server)["canary"] == 2.0
    (base_of(config) / ".1").rename(base_of(config) / "1")
    assert Rollout(config, wait_seconds=20).rollback().stage == "rolled back"
