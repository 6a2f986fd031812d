"""`models.config`: several models in one server, followed while it runs; files at rest alone.

Run: pytest tests/serve/test_models_config.py
"""

import logging
import shutil
import threading

import numpy as np
import pytest
from small_servable import ask, copy_version, until, write_half_plus

from tfmodel.config import ConfigError
from tfmodel.serve import Client, Server, ServingError, serve_settings
from tfmodel.serve.models_config import (
    find_model,
    read_models_config,
    set_versions,
    write_models_config,
)
from tfmodel.serve.rollout import Rollout, write_first_config


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Versions that add 1 and 2."""
    folder = tmp_path_factory.mktemp("made")
    return {number: write_half_plus(folder / str(number), number) for number in (1, 2)}


@pytest.fixture
def places(made, tmp_path):
    """Base folders of two models: 1 and 2 of `news`, 1 of `mail`."""
    for name, numbers in {"news": (1, 2), "mail": (1,)}.items():
        (tmp_path / name).mkdir()
        for number in numbers:
            copy_version(made[number], tmp_path / name / str(number))
    return tmp_path


def settings(**values):
    given = {"rest_port": 0, "grpc_port": 0, "poll_seconds": 0.05, "batch_threads": 1} | values
    return serve_settings(**given)


def entry(name, base, more=""):
    return f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {more} }}\n'


def write(path, *entries):
    path.write_text(f"model_config_list {{ {''.join(entries)} }}")
    return path


def answer(server, path):
    status, found = ask(server.rest_address, f"/v1/models/{path}:predict", {"instances": [0.0]})
    return found["predictions"][0] if status == 200 else status


def test_several_models_with_versions_and_labels(places):
    both = (
        "model_version_policy { specific { versions: 1 versions: 2 } } "
        'version_labels { key: "stable" value: 1 }'
    )
    path = write(
        places / "models.config",
        entry("news", places / "news", both),
        entry("mail", places / "mail"),
    )
    with Server(config_file=path, settings=settings()) as server:
        assert answer(server, "mail") == 1.0 and answer(server, "news") == 2.0
        assert answer(server, "news/labels/stable") == 1.0


def test_the_file_is_followed(places, caplog):
    caplog.set_level(logging.INFO, "tfmodel")
    path = write(places / "models.config", entry("mail", places / "mail"))
    with Server(config_file=path, settings=settings()) as server:
        assert answer(server, "news") == 404
        # A file that is wrong, or cannot be done, changes nothing, and is said once.
        path.write_text("model_config_list { config { nam")
        until(lambda: "not in force" in caplog.text)
        label = 'version_labels { key: "canary" value: 2 }'
        wrong = entry("news", places / "news", f"{label} {label.replace('2', '7')}")
        write(path, entry("mail", places / "mail"), wrong)
        until(lambda: "version 7 of model news, which is not" in caplog.text)
        assert answer(server, "mail") == 1.0
        # The file is its owner's, so it may name folders that the server did not start with.
        fine = entry("news", places / "news", label)
        config = read_models_config(write(places / "aside", entry("mail", places / "mail"), fine))
        write_models_config(path, config)
        until(lambda: answer(server, "news/labels/canary") == 2.0)
        assert answer(server, "news") == 2.0
        path.unlink()
        until(lambda: caplog.text.count("not in force") == 3)
        assert answer(server, "mail") == 1.0
    assert str(places) not in caplog.text


def test_a_version_of_which_something_is_being_written_is_left_alone(places, made, caplog):
    base = places / "mail"
    with Server(base, settings=settings(poll_seconds=0.5)) as server:
        (model,) = server.models
        aside = places / "copy"
        shutil.copytree(made[2], aside)
        # Its vocabulary, say, is not whole yet: nothing is found wrong with the rest.
        (aside / "assets").mkdir(exist_ok=True)
        part = aside / "assets/part"
        part.write_bytes(b"half")
        aside.rename(base / "2")
        stop = threading.Event()

        def copying():
            while not stop.wait(0.1):
                with open(base / "2/assets/part", "ab") as file:
                    file.write(b"more")

        writer = threading.Thread(target=copying)
        writer.start()
        try:
            assert not threading.Event().wait(1.5)
            assert model.live == [1] and 2 not in model.states()
        finally:
            stop.set()
            writer.join()
        until(lambda: model.live == [2])


def test_a_version_that_changes_while_it_is_loaded_is_loaded_again(places, made, monkeypatch):
    from tfmodel.serve import versions

    admit, seen = versions.admit, []

    def slowly(folder, **options):
        servable = admit(folder, **options)
        if not seen:
            (folder / "assets").mkdir(exist_ok=True)
            (folder / "assets/late").write_text("")
        seen.append(folder)
        return servable

    with Server(places / "mail", settings=settings()) as server:
        (model,) = server.models
        monkeypatch.setattr(versions, "admit", slowly)
        copy_version(made[2], places / "mail/2")
        until(lambda: model.live == [2])
        assert len(seen) == 2


def test_a_client_notices_that_another_version_answers_otherwise(places):
    """A version with other outputs takes the place of the one that a client knows."""
    import tensorflow as tf

    other = tf.Module()
    spec = tf.TensorSpec((None,), tf.float32, name="x")
    two = tf.function(lambda x: {"y": x, "z": x + 1}, input_signature=[spec], autograph=False)
    tf.saved_model.save(other, str(places / "other"), signatures=two)
    base = places / "mail"
    with (
        Server(base, settings=settings()) as server,
        Client(f"http://{server.rest_address}") as client,
        Client(f"grpc://{server.grpc_address}") as second,
    ):
        for each in (client, second):
            assert {*each.ask({"x": [2.0]})} == {"y"}
        (places / "other").rename(base / "2")
        until(lambda: next(iter(server.models)).live == [2])
        for each in (client, second):
            found = each.ask({"x": [2.0]})
            assert {*found} == {"y", "z"}
            np.testing.assert_array_equal(found["z"], np.float32([3.0]))
        shutil.rmtree(base / "2")
        until(lambda: next(iter(server.models)).live == [1])
        assert {*client.ask({"x": [2.0]})} == {"y"}


def test_a_deadline_holds_for_those_who_wait_for_a_connection(places):
    from small_servable import holding

    with Server(places / "mail", settings=settings()) as server:
        with (
            Client(f"http://{server.rest_address}", connections=1, timeout_seconds=1) as client,
            holding(server),
        ):
            client.signatures()
            late = []

            def one():
                try:
                    client.ask({"x": [0.0]})
                except ServingError as error:
                    late.append(error.code)

            threads = [threading.Thread(target=one, daemon=True) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(5)
            assert late == ["DEADLINE_EXCEEDED"] * 4


def test_versions_are_written_as_the_schema_has_them(tmp_path):
    more = (
        'model_version_policy { latest { num_versions: 2 } } version_labels { key: "a" value: 3 }'
    )
    path = write(tmp_path / "models.config", entry("one", "/one", more), entry("two", "/two"))
    path.write_text("# why\n#\n" + path.read_text())
    path.chmod(0o604)
    config = read_models_config(path)
    set_versions(find_model(config, "one", path=path), {7, 3}, {"stable": 3, "canary": 7})
    write_models_config(path, config)
    read = read_models_config(path)
    assert read == config and path.stat().st_mode & 0o777 == 0o604
    assert path.read_text().startswith("# why\n#\nmodel_config_list {")
    one, two = read.model_config_list.config
    assert [*one.model_version_policy.specific.versions] == [3, 7]
    assert dict(one.version_labels) == {"stable": 3, "canary": 7} and two.name == "two"


def test_a_rollout_has_a_name_that_addresses_and_files_can_have(tmp_path):
    path = tmp_path / "models.config"
    for name in ("a/b", "../x", "a:b"):
        with pytest.raises(ConfigError, match="without / and :.*Choose another --model") as caught:
            write_first_config(path, name, tmp_path, 1)
        assert repr(name) in str(caught.value) and not path.exists()
        write(tmp_path / "other.config", entry(name, tmp_path))
        with pytest.raises(ConfigError, match="a model's name without / and :"):
            Rollout(tmp_path / "other.config")
    assert [path.name for path in tmp_path.iterdir()] == ["other.config"]


def test_mistakes_of_files(tmp_path):
    path = tmp_path / "models.config"
    with pytest.raises(ConfigError, match="expected a file of models. Received: No such file"):
        read_models_config(path)
    cases = {
        b"{": "a list of models such as",
        b"model_config_list { config { name: 3 } }": "a list of models such as",
        b"": "Received: none",
        b"\xff": "no UTF-8",
        b'model_config_list { config { base_path: "/x" } }': "each model once, with a name",
        (entry("a", "/a") * 2).join(("model_config_list {", "}")).encode(): "'a' 2 times",
    }
    for content, words in cases.items():
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=words):
            read_models_config(path)
    write(path, entry("a", "/a"), entry("b", "relative"))
    config = read_models_config(path)
    for name in (None, "c"):
        with pytest.raises(ConfigError, match="--model to be one of a, b"):
            find_model(config, name, path=path)
    with pytest.raises(ConfigError, match="b to have an absolute base_path"):
        Server(config_file=path)
    with pytest.raises(ConfigError, match="Received: neither"):
        Server()
    with pytest.raises(ConfigError, match="Received: both"):
        Server("x", config_file=path)


def test_the_command_takes_a_file_or_a_folder(tfmodel, tmp_path):
    path = write(tmp_path / "models.config", entry("a", tmp_path / "nothing"))
    done = tfmodel("serve")
    assert done.code == 2 and "Received: neither" in done.err
    done = tfmodel("serve", "--models-config", str(path), "--label", "stable=1")
    assert done.code == 2 and "versions and labels in the file" in done.err
    done = tfmodel("serve", "--models-config", str(path))
    assert done.code == 2 and "a path where nothing is" in done.err


def batching(folder, text):
    (folder / "batching_params.pbtxt").write_text(text)
    return folder


def test_the_batches_that_a_version_brings_along(tmp_path):
    from tfmodel.serve.batching_file import batching_changes, read_batching

    one, two = tmp_path / "1", tmp_path / "2"
    one.mkdir()
    two.mkdir()
    defaults = serve_settings()
    assert read_batching(one).over(defaults) == {
        "batch_rows": 32,
        "queue_rows": 4096,
        "wait_seconds": 0.0,
        "threads": defaults.threads,
    }
    assert [*batching_changes(one, two)] == []
    text = "max_batch_size { value: 8 } batch_timeout_micros { value: 500 } "
    batching(one, text + "max_enqueued_batches { value: 5 } allowed_batch_sizes: 8")
    found = read_batching(one).over(defaults)
    assert (found["batch_rows"], found["queue_rows"], found["wait_seconds"]) == (8, 40, 0.0005)
    # What the caller has said wins.
    found = read_batching(one).over(serve_settings(max_batch_size=4, max_queue=9))
    assert (found["batch_rows"], found["queue_rows"], found["wait_seconds"]) == (4, 9, 0.0005)
    (words,) = batching_changes(one, two)
    assert "version 2 has no batching_params.pbtxt, which version 1 has" in words
    batching(two, "max_batch_size { value: 16 }")
    (words,) = batching_changes(one, two)
    assert words == (
        "version 2 brings its own batches: max_batch_size 8 -> 16, batch_timeout_micros 500 -> "
        "default, max_enqueued_batches 5 -> default"
    )
    for text in ("max_batch_size: 8", "x { value: 1 }", "max_batch_size { value: 0 }", "{"):
        with pytest.raises(ServingError, match="is none that TF Serving reads"):
            read_batching(batching(two, text))
