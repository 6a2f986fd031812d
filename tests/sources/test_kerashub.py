"""The files of KerasHub presets, from a stand-in for Kaggle and from folders.

Run: pytest tests/sources/test_kerashub.py -m ""
"""

import json
import logging
import os
import shutil
import subprocess
import sys

import pytest
from fetching import listed, received, start
from hub_server import HubServer
from kaggle_server import KaggleServer
from needs import package

from tfmodel.sources import fetch, is_remote, members

CONFIG = json.dumps({"class_name": "BertBackbone", "registered_name": "keras_hub>BertBackbone"})
FILES = {
    "config.json": CONFIG.encode(),
    "model.weights.h5": os.urandom(2_000),
    "assets/tokenizer/vocabulary.txt": b"[PAD]\n[UNK]\n",
    "model.keras": b"code inside",
}
TAKEN = ["assets/tokenizer/vocabulary.txt", "config.json", "model.weights.h5"]
HANDLE = "kaggle://me/bert/keras/tiny/2"


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A Kaggle that holds `FILES` as versions 1 and 2 of me/bert/tiny."""
    package("kagglehub")
    from kagglesdk import kaggle_env

    server = KaggleServer()
    server.models["me/bert/tiny"] = {1: FILES, 2: FILES}
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, server.url)
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "kaggle"))
    yield server
    server.shutdown()
    server.server_close()


# --- from Kaggle --------------------------------------------------------------------------


@pytest.mark.slow
def test_a_preset_is_fetched_once_and_offline_afterwards(kaggle, cache, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="tfmodel")
    folder = fetch(f"keras:{HANDLE}")
    assert folder.name == "tiny"
    assert listed(folder) == TAKEN
    assert (folder / "model.weights.h5").read_bytes() == FILES["model.weights.h5"]
    assert f"Fetched 3 files of {HANDLE} into {folder}, left out 1 files of code" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    kaggle.requests.clear()
    shutil.rmtree(tmp_path / "kagglehub")
    assert fetch(f"keras:{HANDLE}") == folder
    assert not kaggle.requests
    assert is_remote(f"keras:{HANDLE}")


@pytest.mark.slow
def test_kagglehub_says_nothing_on_the_standard_output(kaggle, monkeypatch):
    code = f"""
import sys
from kagglesdk import kaggle_env
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.LOCAL] = {kaggle.url!r}
import tfmodel
print(tfmodel.fetch(sys.argv[1]))
"""
    with start(code, f"keras:{HANDLE}") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.endswith("/tiny\n") and out.count("\n") == 1
    assert "Downloading" in err


@pytest.mark.slow
def test_without_a_version_the_one_to_pin_is_told_each_time(kaggle, caplog):
    source = f"keras:{HANDLE.rpartition('/')[0]}"
    first = fetch(source)
    kaggle.models["me/bert/tiny"][3] = {}
    for _ in range(2):
        caplog.clear()
        assert fetch(source) == first
        assert f"{source} is not pinned: write keras:{HANDLE}" in caplog.messages


@pytest.mark.slow
def test_what_kagglehub_left_half_done_is_not_taken(kaggle, tmp_path):
    half = tmp_path / "kagglehub" / "models" / "me" / "bert" / "keras" / "tiny" / "2"
    half.mkdir(parents=True)
    (half / "model.weights.h5").write_bytes(b"half")
    assert (fetch(f"keras:{HANDLE}") / "model.weights.h5").stat().st_size == 2_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "fix"),
    [
        (401, "Set KAGGLE_USERNAME and KAGGLE_KEY to those of an account that may read it."),
        (403, "Accept its terms on kaggle.com, and set KAGGLE_USERNAME and KAGGLE_KEY."),
        (404, "Check the owner, the model, the name and the version."),
        (500, "Try again later. Or bring it by hand: where Kaggle can be reached, run `python"),
    ],
)
def test_what_kaggle_refuses_is_told(kaggle, status, fix):
    kaggle.refusal = status
    assert (
        f"keras:{HANDLE}: expected the preset {HANDLE}. Received: HTTP {status} from Kaggle. {fix}"
        in received(f"keras:{HANDLE}")
    )


@pytest.mark.slow
def test_what_differs_from_kaggle_s_hash_is_refused(kaggle, cache):
    kaggle.md5 = "AAAA"
    source = f"keras:{HANDLE}"
    assert received(source) == (
        f"{source}: expected the preset {HANDLE}. Received: bytes with another hash than Kaggle "
        "tells. Try again; if it stays so, do not use it."
    )
    assert not list(cache.rglob("config.json"))


@pytest.mark.slow
def test_no_network_says_how_to_bring_the_preset(kaggle, cache):
    kaggle.shutdown()
    kaggle.server_close()
    message = received(f"keras:{HANDLE}")
    assert f"expected the preset {HANDLE}. Received: no connection to Kaggle (" in message
    place = "keras/me--bert--keras--tiny--2"
    assert message.endswith(f"copy ~/.cache/tfmodel/{place} from there to {cache}/{place}.")


@pytest.mark.slow
def test_what_is_no_preset_or_too_large_is_refused(kaggle, cache, monkeypatch):
    kaggle.models["me/bert/tiny"][2] = {"README.md": b"read me"}
    assert "expected a preset folder with the config.json" in received(f"keras:{HANDLE}")
    monkeypatch.setattr(members, "MEMBER_LIMIT_BYTES", 1_000)
    source = f"keras:{HANDLE.replace('/2', '/1')}"
    assert received(source) == (
        f"{source}: expected files that are safe to take. Received: model.weights.h5 of 2,000 "
        "bytes, more than 1,000. Name another preset, or report it to its maker."
    )
    assert listed(cache / "keras") == [".lock"]


# --- by KerasHub's names ------------------------------------------------------------------


@pytest.mark.slow
def test_a_name_that_kerashub_knows_leads_to_its_handle(kaggle, monkeypatch, caplog):
    presets = package("keras_hub").models.Backbone.presets
    handle = presets["bert_tiny_en_uncased"]["kaggle_handle"]
    owner, model, _, name, version = handle.removeprefix("kaggle://").split("/")
    kaggle.models[f"{owner}/{model}/{name}"] = {int(version): FILES}
    folder = fetch("keras:bert_tiny_en_uncased")
    assert folder.name == "bert_tiny_en_uncased"
    assert listed(folder) == TAKEN
    assert f"keras:bert_tiny_en_uncased is not pinned: write keras:{handle}" in caplog.messages


@pytest.mark.slow
def test_an_unknown_name_lists_near_ones():
    package("keras_hub")
    message = received("keras:bert_tiny_uncased")
    assert "expected a preset that KerasHub knows. Received: bert_tiny_uncased. Name one" in message
    assert ": bert_tiny_en_uncased, " in message


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    message = received("keras:bert_tiny_en_uncased")
    assert message.startswith(
        "keras:bert_tiny_en_uncased: expected the package keras-hub, which knows it. Received: none"
    )
    assert message.endswith("Install it: pip install 'tfmodel[keras-hub]'")


# --- from the hub and from folders --------------------------------------------------------


def test_a_preset_of_the_hugging_face_hub(monkeypatch):
    package("huggingface_hub")
    server = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    commit = server.add("models/me/tiny", FILES)
    folder = fetch(f"keras:hf://me/tiny@{commit}")
    assert listed(folder) == TAKEN
    assert fetch(f"hf:me/tiny@{commit}") == folder
    commit = server.add("models/me/tiny", {"README.md": b"read me"})
    assert f"keras:hf://me/tiny@{commit}: expected a preset folder" in (
        received(f"keras:hf://me/tiny@{commit}")
    )
    server.shutdown()
    server.server_close()


def test_a_folder(tmp_path, monkeypatch):
    (tmp_path / "preset").mkdir()
    (tmp_path / "preset" / "config.json").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRESETS", str(tmp_path))
    for source in (f"keras:{tmp_path}/preset", "keras:./preset", "keras:${PRESETS}/preset"):
        assert fetch(source) == tmp_path / "preset"
        assert not is_remote(source)  # what is here can change
    assert is_remote("keras:preset")  # a name of KerasHub's


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (None, "none in {folder}"),
        ("{", "one that is no JSON object"),
        ("[]", "one that is no JSON object"),
        ("{}", "one that names no model"),
    ],
)
def test_a_folder_that_is_no_preset(tmp_path, config, problem):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert received(f"keras:{tmp_path}") == (
        f"keras:{tmp_path}: expected a preset folder with the config.json that `save_to_preset` "
        f"writes. Received: {problem.format(folder=tmp_path)}. Name the folder that holds it."
    )


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("keras:./missing", "./missing, where there is none"),
        ("keras:", "nothing"),
        ("keras:a/b", "a/b"),
        (
            "keras:kaggle://me/bert",
            "a handle that Kaggle cannot have (kaggle://OWNER/MODEL/keras/NAME/VERSION)",
        ),
    ],
)
def test_a_malformed_source_shows_what_is_wrong_and_an_example(source, problem):
    assert received(source) == (
        f"{source}: expected keras: and a preset's name, a handle kaggle://… or hf://…, or a "
        f"folder. Received: {problem}. Write it like keras:bert_tiny_en_uncased"
    )


# --- a real preset ------------------------------------------------------------------------

SAVE_AND_LOAD = """
import sys
import keras_hub, numpy
from tfmodel.sources import fetch
saved, how = sys.argv[1:]
if how == "save":
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=7, num_layers=1, num_heads=2, hidden_dim=4, intermediate_dim=8,
        max_sequence_length=8,
    )
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    backbone.save_to_preset(saved)
    keras_hub.models.BertTokenizer(vocabulary=words, lowercase=True).save_to_preset(saved)
else:
    fetched = str(fetch(how))
    one, other = (keras_hub.models.Backbone.from_preset(f) for f in (saved, fetched))
    for weight, same in zip(one.weights, other.weights, strict=True):
        numpy.testing.assert_array_equal(weight.numpy(), same.numpy())
    print([int(i) for i in keras_hub.models.Tokenizer.from_preset(fetched)("good bad")])
"""


@pytest.mark.slow
def test_kerashub_loads_what_is_fetched(kaggle, tmp_path):
    package("keras_hub")
    saved = tmp_path / "saved"

    def run(how):
        command = [sys.executable, "-c", SAVE_AND_LOAD, str(saved), how]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("save")
    kaggle.models["me/bert/tiny"][2] = {name: (saved / name).read_bytes() for name in listed(saved)}
    folder = fetch(f"keras:{HANDLE}")
    assert listed(folder) == listed(saved)
    assert run(f"keras:{folder}") == "[5, 6]\n"


@pytest.mark.slow
def test_a_copy_that_is_broken_off_is_never_taken_for_whole(kaggle, cache, monkeypatch):
    def break_off(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.copyfile", break_off)
        fetch(f"keras:{HANDLE}")
    assert not list(cache.rglob("tiny"))
    assert listed(fetch(f"keras:{HANDLE}")) == TAKEN
