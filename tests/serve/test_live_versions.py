"""Versions appear, drain and disappear under load; what is damaged or refused never answers.

Run: pytest tests/serve/test_live_versions.py
"""

import contextlib
import json
import logging
import shutil
import threading
import time

import grpc
import numpy as np
import pytest
from small_servable import ask, copy_version, until, write_half_plus

from tfmodel.config import ConfigError
from tfmodel.serve import Server, serve_settings
from tfmodel.serve.server import labels_of, policy_of

PREDICT = "/v1/models/model:predict"
WARM_UP = "assets.extra/tf_serving_warmup_requests"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Versions that add 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("made")
    return {number: write_half_plus(folder / str(number), number) for number in (1, 2, 3)}


@pytest.fixture
def base(made, tmp_path):
    base = tmp_path / "export" / "savedmodel"
    base.mkdir(parents=True)
    copy_version(made[1], base / "1")
    return base


def settings(**values):
    return serve_settings(
        rest_port=0, grpc_port=0, poll_seconds=0.02, batch_threads=2, stop_seconds=10, **values
    )


@contextlib.contextmanager
def serving(base, **options):
    with Server(base, settings=options.pop("settings", settings()), **options) as server:
        yield server


def answer(server, path=PREDICT):
    """What the model adds to 0."""
    status, found = ask(server.rest_address, path, {"instances": [0.0]})
    return found["predictions"][0] if status == 200 else status


def states(server):
    _, found = ask(server.rest_address, "/v1/models/model")
    return {
        int(entry["version"]): (entry["state"], entry["status"]["error_message"])
        for entry in found["model_version_status"]
    }


def test_the_newest_version_takes_over_and_older_ones_come_back(made, base):
    for name in (2**63, "9" * 200, "٣", "-1", "2.partial"):
        (base / str(name)).mkdir()  # no versions
    with serving(base) as server:
        assert answer(server) == 1.0
        copy_version(made[2], base / "2")
        until(lambda: answer(server) == 2.0)
        until(lambda: states(server)[1][0] == "END")
        assert {*states(server)} == {1, 2}
        assert answer(server, "/v1/models/model/versions/1:predict") == 404
        shutil.rmtree(base / "2")
        until(lambda: answer(server) == 1.0)
        until(lambda: states(server)[2][0] == "END")
        shutil.rmtree(base / "1")
        until(lambda: answer(server) == 404)
        assert ask(server.rest_address, "/readyz")[0] == 503
        copy_version(made[3], base / "10")
        until(lambda: answer(server) == 3.0)
        assert ask(server.rest_address, "/readyz")[0] == 200


def test_a_base_folder_that_cannot_be_read_just_now_changes_nothing(base):
    with serving(base) as server:
        base.rename(base.with_name("away"))
        time.sleep(0.2)
        assert answer(server) == 1.0


def test_no_request_fails_while_versions_change(made, base):
    with serving(base) as server:
        stop, failures, seen = threading.Event(), [], set()

        def over_rest():
            while not stop.is_set():
                found = answer(server)
                seen.add(found)
                if found not in (1.0, 2.0):
                    failures.append(found)

        def over_grpc():
            import tensorflow as tf
            from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

            request = predict_pb2.PredictRequest()
            request.model_spec.name = "model"
            request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32([0.0])))
            with grpc.insecure_channel(server.grpc_address) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                while not stop.is_set():
                    try:
                        stub.Predict(request, timeout=30)
                    except grpc.RpcError as error:
                        failures.append(error.code())

        clients = [threading.Thread(target=each) for each in (over_rest, over_grpc, over_rest)]
        for client in clients:
            client.start()
        for number in range(2, 10):
            copy_version(made[number % 2 + 1], base / str(number))
            until(lambda number=number: number in next(iter(server.models)).live)
            until(lambda number=number: states(server)[number - 1][0] == "END")
            shutil.rmtree(base / str(number - 1))
        stop.set()
        for client in clients:
            client.join()
    assert not failures and seen == {1.0, 2.0}


def rename_an_operation(version):
    path = version / "saved_model.pb"
    path.write_bytes(path.read_bytes().replace(b"RealDiv", b"UnrealD"))


def truncate(version):
    path = version / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:1000])


def refuse_parity(version):
    parity = {"artifacts": {"savedmodel": {"path": f"savedmodel/{version.name}", "passed": False}}}
    (version.parents[1] / "parity.json").write_text(json.dumps(parity))


def garble_parity(version):
    (version.parents[1] / "parity.json").write_text("{")


def warm_up_that_fails(version):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32([-5000])))
    (version / WARM_UP).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(version / WARM_UP)) as writer:
        writer.write(log.SerializeToString())


def warm_up_that_is_damaged(version):
    (version / WARM_UP).parent.mkdir(exist_ok=True)
    (version / WARM_UP).write_bytes(b"no record")


REFUSED = {
    truncate: "It is damaged",
    lambda version: (version / "saved_model.pb").unlink(): "It is damaged",
    rename_an_operation: "TF Serving 2.12 cannot serve it",
    refuse_parity: "does not answer as its model does",
    garble_parity: "nobody knows its verdict",
    warm_up_that_fails: "Its warm-up request 1 fails",
    warm_up_that_is_damaged: "TF Serving 2.12 cannot serve it",
}


@pytest.mark.parametrize("damage", REFUSED, ids=range(len(REFUSED)))
def test_a_version_that_is_refused_never_answers(made, base, tmp_path, damage, caplog):
    caplog.set_level(logging.INFO, "tfmodel")
    # Damaged before it is there: a server looks at any moment.
    aside = base / ".2.partial"
    shutil.copytree(made[2], aside)
    with serving(base) as server:
        if damage in (refuse_parity, garble_parity):
            damage(base / "2")
        else:
            damage(aside)
        aside.rename(base / "2")
        until(lambda: 2 in states(server) and states(server)[2][0] == "END")
        message = states(server)[2][1]
        assert REFUSED[damage] in message
        assert answer(server) == 1.0 and states(server)[1][0] == "AVAILABLE"
        assert answer(server, "/v1/models/model/versions/2:predict") == 404
        # Put right, it is looked at again.
        shutil.rmtree(base / "2")
        (base.parent / "parity.json").unlink(missing_ok=True)
        copy_version(made[2], base / "2")
        until(lambda: answer(server) == 2.0)
    assert str(tmp_path) not in message + caplog.text and "Traceback" not in caplog.text
    # A server that starts beside a refused version serves the one before.
    truncate(base / "2")
    with serving(base) as server:
        assert answer(server) == 1.0


def test_a_parity_verdict_of_another_version_is_no_verdict(base):
    refuse_parity(base / "7")
    with serving(base) as server:
        assert answer(server) == 1.0


def test_warm_up_requests_of_every_kind_are_answered(made, base):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    logs = []
    for kind in ("classify", "regress"):
        log = prediction_log_pb2.PredictionLog()
        request = getattr(log, f"{kind}_log").request
        request.model_spec.signature_name = f"{kind}_x_to_y"
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(1.0)
        logs.append(log)
    (base / "1" / WARM_UP).parent.mkdir()
    with tf.io.TFRecordWriter(str(base / "1" / WARM_UP)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())
    with serving(base) as server:
        assert answer(server) == 1.0
        warmed = (
            ':tensorflow:serving:model_warmup_latency_count{model_path="model/1",status="OK"} 1'
        )
        assert warmed in server.metrics.page()


def third_warm_up_fails(version):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    (version / WARM_UP).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(version / WARM_UP)) as writer:
        for values in ([1.0], [1.0, 2.0], [-5000.0]):
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(values))
            writer.write(log.SerializeToString())
    return version


def test_nothing_goes_live_before_all_of_its_warm_up(made, base, tmp_path):
    third_warm_up_fails(copy_version(made[2], base / "2"))
    with serving(base) as server:  # at a start too
        assert states(server)[2][0] == "END" and answer(server) == 1.0
        assert "Its warm-up request 3 fails" in states(server)[2][1]
        third_warm_up_fails(copy_version(made[3], tmp_path / "3")).rename(base / "3")
        found = set()
        until(lambda: found.add(answer(server)) or states(server).get(3, ("",))[0] == "END")
        assert found == {1.0} and "Its warm-up request 3 fails" in states(server)[3][1]


def test_policies_and_labels(made, base):
    for number in (2, 3):
        copy_version(made[number], base / str(number))
    label = "/v1/models/model/labels/{}:predict"
    with serving(base, policy=policy_of("all"), labels=labels_of(["stable=1"])) as server:
        assert sorted(number for number, _ in states(server).items()) == [1, 2, 3]
        assert answer(server) == 3.0 and answer(server, label.format("stable")) == 1.0
        assert answer(server, label.format("canary")) == 400
    with serving(base, policy=policy_of("1,2")) as server:
        assert answer(server) == 2.0 and 3 not in states(server)
    # What has a label stays, though newer ones are there.
    with serving(base, labels={"stable": 1}) as server:
        assert next(iter(server.models)).live == [1, 3]
    with pytest.raises(RuntimeError, match="label stable to be live. Received: 9; live are 3"):
        with serving(base, labels={"stable": 9}):
            pass


def reload(server, *configs):
    """Send a new config: name, base, version policy, labels each."""
    from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

    request = model_management_pb2.ReloadConfigRequest()
    for name, base, policy, labels in configs:
        config = request.config.model_config_list.config.add()
        config.name, config.base_path, config.model_platform = name, str(base), "tensorflow"
        if policy == "all":
            config.model_version_policy.all.SetInParent()
        elif policy:
            config.model_version_policy.specific.versions.extend(policy)
        for label, number in labels.items():
            config.version_labels[label] = number
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        try:
            return stub.HandleReloadConfigRequest(request, timeout=60).status.error_code
        except grpc.RpcError as error:
            return error.code().name, error.details()


def test_a_new_config_moves_labels_and_exchanges_models(made, base, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    copy_version(made[3], other / "1")
    copy_version(made[2], base / "2")
    canary, stable = (f"/v1/models/model/labels/{name}:predict" for name in ("canary", "stable"))
    with serving({"model": base, "other": other}) as server:
        assert answer(server, "/v1/models/other:predict") == 3.0
        labels = {"stable": 1, "canary": 2}
        assert reload(server, ("model", base, "all", labels)) == 0
        assert (answer(server, stable), answer(server, canary)) == (1.0, 2.0)
        assert answer(server, "/v1/models/other:predict") == 404
        # Promoted; a label that cannot move leaves all as they were.
        assert reload(server, ("model", base, "all", {"stable": 2})) == 0
        assert (answer(server, stable), answer(server, canary)) == (2.0, 400)
        code, words = reload(server, ("model", base, "all", {"stable": 7, "canary": 1}))
        assert code == "FAILED_PRECONDITION" and "not currently available" in words
        assert (answer(server, stable), answer(server, canary)) == (2.0, 400)
        assert reload(server, ("model", base, [1], {}), ("other", other, None, {})) == 0
        assert answer(server) == 1.0 and answer(server, "/v1/models/other:predict") == 3.0
        code, words = reload(server, ("model", base, [9], {}))
        assert (code, words) == ("UNKNOWN", "1 servable(s) did not become available: model")
        assert reload(server, ("new", base, [1], {})) == 0
        assert answer(server, "/v1/models/new:predict") == 1.0 and answer(server) == 404


def test_a_wrong_config_changes_nothing(made, base, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copy_version(made[2], elsewhere / "1")
    with serving(base) as server:
        # A SavedModel is code: only folders that the server was started with are ever read.
        for path in (elsewhere, base / "..", tmp_path, base / "1"):
            code, words = reload(server, ("model", path, None, {}))
            assert code == "PERMISSION_DENIED" and str(tmp_path) not in words
        wrong = [
            ([("model", "relative", None, {})], "absolute path"),
            ([("model", base, None, {})] * 2, "multiple times"),
            ([("", base, None, {})], "model name"),
            ([("a/b", base, None, {})], "model name"),
            ([("model", base, None, {"x": 0})], "less than 1"),
            ([("model", "/\0", None, {})], "base path"),
        ]
        for configs, words in wrong:
            code, said = reload(server, *configs)
            assert code == "INVALID_ARGUMENT" and words in said
        assert answer(server) == 1.0


def test_mistakes_before_it_starts(base, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "file").write_text("")
    cases = [
        (tmp_path / "nothing", "a path where nothing is"),
        (tmp_path / "file", "a file"),
        (empty, "a folder without"),
        (base / "1", "one version alone"),
        ({"a:b": base}, "a model's name without / and :"),
    ]
    for where, words in cases:
        with pytest.raises(ConfigError, match=words):
            Server(where)
    for words in ("", "latest", "1,", "1,x", "9" * 20, "9" * 5000):
        with pytest.raises(ConfigError, match="newest, all, or numbers"):
            policy_of(words)
    for pairs in (["a"], ["=1"], ["a=x"], ["a/b=1"], ["a=1", "a=2"]):
        with pytest.raises(ConfigError, match="NAME=VERSION"):
            labels_of(pairs)
    with pytest.raises(ConfigError, match="--max-batch-size: .*greater than or equal to 1.*0"):
        serve_settings(max_batch_size=0)
    with pytest.raises(ConfigError, match="--timeout-seconds: .*less than or equal to 100000000"):
        serve_settings(timeout_seconds=1e10)
    with pytest.raises(ConfigError, match="--tls-certificate and --tls-key together"):
        serve_settings(tls_key="x")
    with pytest.raises(ConfigError, match="1.9"):
        Server(base, settings=serve_settings(target="1.9"))
    truncate(base / "1")
    with pytest.raises(RuntimeError, match="no version can be served: version 1: It is damaged"):
        with serving(base):
            pass
    with serving_port_taken() as port:
        for options in ({"rest_port": port}, {"grpc_port": port}):
            (name,) = options
            with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')}.*free"):
                values = {"rest_port": 0, "grpc_port": 0} | options
                Server(base, settings=serve_settings(**values)).start()


@contextlib.contextmanager
def serving_port_taken():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]
