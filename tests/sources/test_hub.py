"""Files of a hub repository, from a stand-in for the hub on this machine.

Run: pytest tests/sources/test_hub.py
"""

import errno
import logging
import os
import signal
import sys

import pytest
from fetching import listed, received, start
from hub_server import HubServer
from needs import package

from tfmodel.config import ConfigError
from tfmodel.sources import fetch, is_remote, members

WEIGHTS = os.urandom(200_000)
FILES = {
    "config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"a pickle",
    "modeling.py": b"import os",
    "onnx/labels.txt": b"good\nbad\n",
    "onnx/more/notes.txt": b"more",
}


@pytest.fixture(autouse=True)
def server(monkeypatch):
    """A hub that holds `FILES` as the model me/tiny."""
    package("huggingface_hub")
    server = HubServer()
    server.add("models/me/tiny", FILES)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def commit(server):
    return server.branches["models/me/tiny"]["main"]


# --- what a repository brings -------------------------------------------------------------


def test_a_repository_is_fetched_once_and_offline_afterwards(server, commit, caplog):
    caplog.set_level(logging.INFO)
    source = f"hf:me/tiny@{commit}"
    folder = fetch(source)
    assert folder.name == "tiny"
    assert listed(folder) == [
        "config.json",
        "model.safetensors",
        "onnx/labels.txt",
        "onnx/more/notes.txt",
    ]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert f"of me/tiny at {commit} into {folder}, left out 2 files of code" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    server.requests.clear()
    assert fetch(source) == fetch(f"{source}/") == folder
    assert not server.requests


def test_nothing_but_the_files_stays_in_the_cache(cache, commit):
    folder = fetch(f"hf:me/tiny@{commit}/config.json").parent
    assert listed(cache / "hf") == ["me--tiny/.lock", f"me--tiny/{folder.name}/config.json"]


def test_a_folder_or_a_file_of_it(commit):
    folder = fetch(f"hf:me/tiny@{commit}/onnx")
    assert folder.name == "onnx"
    assert listed(folder) == ["labels.txt", "more/notes.txt"]
    file = fetch(f"hf:me/tiny@{commit}/onnx/more/notes.txt")
    assert file.name == "notes.txt"
    assert file.read_text() == "more"


def test_a_data_set_is_another_repository(server):
    commit = server.add("datasets/me/tiny", {"train.csv": b"text,label\n"})
    assert fetch(f"hf:datasets/me/tiny@{commit}/train.csv").read_text() == "text,label\n"


def test_a_branch_is_resolved_once_and_the_commit_to_pin_is_told(server, commit, caplog):
    first = fetch("hf:me/tiny/config.json")
    newer = server.add("models/me/tiny", {"config.json": b'{"newer": true}'})
    for source in ("hf:me/tiny/config.json", "hf:me/tiny@main/config.json"):
        caplog.clear()
        assert fetch(source) == first
        assert f"{source} is not pinned: write hf:me/tiny@{commit}/config.json" in caplog.messages
    assert first.read_text() == "{}"
    assert "newer" in fetch(f"hf:me/tiny@{newer}/config.json").read_text()


def test_a_branch_and_its_commit_share_what_is_fetched(server, commit):
    folder = fetch(f"hf:me/tiny@{commit}")
    server.requests.clear()
    assert fetch("hf:me/tiny@main") == folder
    assert server.requests == ["GET /api/models/me/tiny/revision/main"]


def test_a_revision_with_a_slash(server):
    server.add("models/me/tiny", {"config.json": b"[]"}, branch="refs/pr/1")
    assert fetch("hf:me/tiny@refs%2Fpr%2F1/config.json").read_text() == "[]"


def test_the_token_is_sent(server, commit, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(f"hf:me/tiny@{commit}/config.json")
    assert set(server.tokens) >= {"Bearer hf_secret"}


def test_is_remote():
    assert is_remote("hf:me/tiny@main/config.json")


# --- broken off and together --------------------------------------------------------------


def test_a_killed_download_is_never_taken_for_whole_and_is_continued(server, commit, cache):
    source = f"hf:me/tiny@{commit}"
    server.stall_after_bytes = 150_000
    code = "import sys, tfmodel; tfmodel.fetch(sys.argv[1])"
    with start(code, source) as process:
        assert server.stalled.wait(60), process.stderr.read()
        process.send_signal(signal.SIGKILL)
    server.go_on()
    assert not list(cache.rglob("tiny"))
    server.requests.clear()
    folder = fetch(source)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert f"GET /me/tiny/resolve/{commit}/config.json" not in server.requests  # it was whole
    assert not list(cache.rglob(".*.partial-*")) and not list(cache.rglob("*.incomplete"))


def test_a_connection_that_breaks_is_taken_up_again(server, commit, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.drops, server.drop_after_bytes = 2, 50_000
    assert fetch(f"hf:me/tiny@{commit}/model.safetensors").read_bytes() == WEIGHTS
    assert server.ranges == [50_000, 100_000]


def test_two_processes_fetch_the_same_together(server, commit):
    code = "import sys, tfmodel; print(tfmodel.fetch(sys.argv[1]))"
    processes = [start(code, f"hf:me/tiny@{commit}") for _ in range(2)]
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    assert results[0][0] == results[1][0]
    assert server.requests.count(f"GET /me/tiny/resolve/{commit}/model.safetensors") == 1


# --- mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("hf:tiny@main/config.json", "a repository without its owner (OWNER/NAME)"),
        ("hf:datasets/tiny", "a repository without its owner (OWNER/NAME)"),
        ("hf:spaces/me/tiny", "a space, which is a program"),
        ("hf:me/tiny@a..%2F../b", "a repository, revision or path that the hub cannot have"),
        ("hf:me/tiny@main/../../etc", "a repository, revision or path that the hub cannot have"),
        ("hf:me/tiny@", "a repository, revision or path that the hub cannot have"),
        ("hf:", "a repository without its owner (OWNER/NAME)"),
    ],
)
def test_a_malformed_source_shows_what_is_wrong_and_an_example(server, source, problem):
    message = received(source)
    assert message.startswith(f"{source}: expected hf:OWNER/NAME@REVISION/PATH, or hf:datasets/")
    assert f"Received: {problem}. Write it like hf:OWNER/NAME@0123456789abcdef" in message
    assert not server.requests


def test_a_wrong_revision_lists_those_there_are(server):
    server.add("models/me/tiny", FILES, branch="v2")
    for revision in ("v1", "0" * 40):
        assert received(f"hf:me/tiny@{revision}/config.json") == (
            f"hf:me/tiny@{revision}/config.json: expected the model me/tiny. Received: no revision "
            f"{revision}; it has v2, main. Name a branch, "
            "a tag or a commit of it."
        )


def test_a_missing_file_lists_near_ones(commit):
    source = f"hf:me/tiny@{commit}/onnx/label.txt"
    assert received(source) == (
        f"{source}: expected onnx/label.txt in me/tiny. Received: no such entry. It holds, among "
        "6 files: onnx/labels.txt, onnx/more/notes.txt, onnx/more, onnx. Name one of these."
    )


def test_a_repository_that_is_not_there_or_private(commit):
    assert received("hf:me/huge@main") == (
        "hf:me/huge@main: expected the model me/huge. Received: no model of this name that may be "
        "read here (HTTP 401). Check the name (a data set is hf:datasets/OWNER/NAME); for a "
        "private or gated one set HF_TOKEN."
    )
    assert "no data set of this name" in received("hf:datasets/me/tiny@main")


def test_a_gated_repository_says_where_to_ask(server, commit):
    server.gated = True
    source = f"hf:me/tiny@{commit}/config.json"
    assert received(source) == (
        f"{source}: expected the model me/tiny. Received: a refusal (HTTP 403): it is gated or "
        f"private. Ask for access on {server.url}/me/tiny, then set HF_TOKEN to a token of that "
        "account."
    )


def by_hand(cache, source):
    return (
        'Or bring it by hand: where the hub can be reached, run `python -c "import tfmodel; '
        f"tfmodel.fetch('{source}')\"`, and copy ~/.cache/tfmodel/hf/me--tiny from there to "
        f"{cache}/hf/me--tiny."
    )


def test_a_hub_that_fails(server, commit, cache):
    server.down = True
    source = f"hf:me/tiny@{commit}"
    assert received(source) == (
        f"{source}: expected the model me/tiny. Received: HTTP 503 from {server.url}. Try again "
        f"later. {by_hand(cache, source)}"
    )


def test_a_hub_that_cannot_be_reached(commit, cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port
    source = "hf:me/tiny@main"
    message = received(source)
    assert message.startswith(
        f"{source}: expected the model me/tiny. Received: no connection to http://127.0.0.1:9 ("
    )
    assert "Connection refused" in message
    assert message.endswith(f"Check the network and HF_ENDPOINT. {by_hand(cache, source)}")


def test_what_is_brought_by_hand_needs_no_hub(server, commit, cache, tmp_path, monkeypatch):
    fetched = fetch("hf:me/tiny@main/onnx")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("TFMODEL_CACHE", str(tmp_path / "other"))
    (tmp_path / "other" / "hf").mkdir(parents=True)
    (cache / "hf" / "me--tiny").rename(tmp_path / "other" / "hf" / "me--tiny")
    assert fetch("hf:me/tiny@main/onnx") == tmp_path / "other" / fetched.relative_to(cache)


def test_an_address_that_is_no_hub(server, monkeypatch):
    monkeypatch.setattr("hub_server.Handler.do_GET", lambda self: self.answer(200, b"<html>", {}))
    assert "Received: what the hub does not answer, or a name it cannot have" in (
        received("hf:me/tiny@main/config.json")
    )


def test_offline_mode_is_told(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = received("hf:me/tiny@main")
    assert "Received: HF_HUB_OFFLINE, which forbids to ask the hub. Unset it. Or bring" in message


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert received("hf:me/tiny@main") == (
        "hf:me/tiny@main: expected the package huggingface_hub, which fetches it. Received: "
        "none. Install it: pip install 'tfmodel[hub]'"
    )


# --- what is not taken --------------------------------------------------------------------


def test_code_alone_is_refused(commit):
    source = f"hf:me/tiny@{commit}/pytorch_model.bin"
    assert received(source) == (
        f"{source}: expected data. Received: code or pickles alone, such as pytorch_model.bin, "
        "which tfmodel never takes. Name a file or folder of data (weights as .safetensors)."
    )


def test_a_name_that_leads_out_is_refused(server, cache):
    server.add("models/me/tiny", {**FILES, "onnx/../../evil": b"x"})
    assert "Received: a name that leads out of its folder: 'onnx/../../evil'. Nothing was" in (
        received("hf:me/tiny")
    )
    assert not list(cache.rglob("evil"))


def test_limits_hold_before_anything_is_fetched(server, commit, monkeypatch):
    monkeypatch.setattr(members, "MEMBER_LIMIT_BYTES", 1_000)
    source = f"hf:me/tiny@{commit}"
    assert received(source) == (
        f"{source}: expected files that are safe to take. Received: model.safetensors of 200,000 "
        "bytes, more than 1,000. Nothing was fetched; name a part of it by a PATH, or another "
        "source."
    )
    assert not [request for request in server.requests if "/resolve/" in request]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_what_differs_from_what_the_hub_lists_is_refused(server, commit, cache, name):
    server.lies[name] = bytes(len(FILES[name]))
    source = f"hf:me/tiny@{commit}/{name}"
    message = received(source)
    assert f"{source}: expected {name} with {len(FILES[name]):,} bytes and the hash " in message
    assert "Try again; if it stays so, do not use it." in message
    assert not list(cache.rglob(name))
    server.lies.clear()
    assert fetch(source).read_bytes() == FILES[name]


def test_a_full_disk_names_the_cache(commit, cache, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(OSError, match=f"{cache}.* expected room on the disk") as caught:
        fetch(f"hf:me/tiny@{commit}")
    assert not isinstance(caught.value, ConfigError)
