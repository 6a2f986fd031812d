"""Data sets that TFDS prepares, and the split in brackets.

The data set is a small one of the tests' own, which TFDS downloads from this machine and
prepares as it does any other. Run: pytest tests/sources/test_tfds.py
"""

import errno
import http.server
import logging
import os
import shutil
import signal
import threading
import urllib.error
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from fetching import listed, received, start
from tiny_reviews import TinyReviews

from tfmodel.config import ConfigError
from tfmodel.sources import fetch, is_remote, split_of

ROWS = "".join(f"the soup was {n} times {w},{w}\n" for n in range(5) for w in ("good", "bad"))
PREPARED = [
    "dataset_info.json",
    "features.json",
    "label.labels.txt",
    "tiny_reviews-test.tfrecord-00000-of-00001",
    "tiny_reviews-train.tfrecord-00000-of-00001",
]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    asked = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(ROWS)))
        self.end_headers()
        self.wfile.write(ROWS.encode())

    def log_message(self, *arguments):
        """Stay silent."""


@pytest.fixture
def server(monkeypatch):
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("TINY_REVIEWS_URL", f"http://127.0.0.1:{server.server_port}/reviews.csv")
        yield server
        server.shutdown()


@pytest.fixture
def unreachable(monkeypatch):
    monkeypatch.setenv("TINY_REVIEWS_URL", "http://127.0.0.1:9/reviews.csv")  # the discard port
    monkeypatch.setattr("tensorflow_datasets.core.download.downloader.MAX_RETRIES", 0)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A cache with the data set, prepared once for all tests that only look at it."""
    with Server(("127.0.0.1", 0), Handler) as server, pytest.MonkeyPatch.context() as patch:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        patch.setenv("TINY_REVIEWS_URL", f"http://127.0.0.1:{server.server_port}/reviews.csv")
        patch.setenv("TFMODEL_CACHE", str(tmp_path_factory.mktemp("tfds")))
        folder = fetch("tfds:tiny_reviews/short:1.1.0")
        server.shutdown()
    return folder


def bring(prepared, cache):
    """Put what was prepared elsewhere into the cache, without TFDS's notes."""
    folder = cache / "tfds" / "tiny_reviews" / "short" / "1.1.0"
    shutil.copytree(prepared, folder)
    return folder


@pytest.fixture
def no_tfds(monkeypatch):
    monkeypatch.setattr(tfds, "builder_cls", lambda name: pytest.fail("TFDS was asked"))


# --- what TFDS prepares -------------------------------------------------------------------


def test_a_data_set_is_prepared_once_and_offline_afterwards(
    server, cache, monkeypatch, caplog, capsys
):
    caplog.set_level(logging.INFO)
    source = "tfds:tiny_reviews/short:1.1.0[train]"
    folder = fetch(source)
    assert folder == cache / "tfds" / "tiny_reviews" / "short" / "1.1.0"
    assert listed(folder) == PREPARED
    read = tfds.builder_from_directory(str(folder))
    assert {name: split.num_examples for name, split in read.info.splits.items()} == {
        "train": 8,
        "test": 2,
    }
    assert f"Prepared tiny_reviews/short:1.1.0 in {folder}" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not capsys.readouterr().out
    # Neither downloads nor anything half done stays behind.
    beside = ["tiny_reviews/.config/metadata.json", "tiny_reviews/.lock"]
    assert listed(cache / "tfds") == [
        *beside,
        *(f"tiny_reviews/short/1.1.0/{name}" for name in PREPARED),
    ]
    monkeypatch.setattr(tfds, "builder_cls", lambda name: pytest.fail("TFDS was asked"))
    assert fetch(source) == fetch("tfds:tiny_reviews[test]") == folder
    assert server.asked == 1


def test_without_a_version_the_one_to_pin_is_told_each_time(prepared, cache, no_tfds, caplog):
    folder = bring(prepared, cache)
    for _ in range(2):
        caplog.clear()
        assert fetch("tfds:tiny_reviews/short[train[:10%]]") == folder
        assert (
            "tfds:tiny_reviews/short[train[:10%]] is not pinned: "
            "write tfds:tiny_reviews/short:1.1.0[train[:10%]]" in caplog.messages
        )


def test_the_newest_version_in_the_cache_stays_the_one_used(prepared, cache, no_tfds):
    folder = bring(prepared, cache)
    for version in ("1.0.9", "1.0.10"):
        shutil.copytree(folder, folder.with_name(version))
    shutil.copytree(folder, folder.with_name("notes"))
    assert fetch("tfds:tiny_reviews/short").name == "1.1.0"
    shutil.rmtree(folder)
    assert fetch("tfds:tiny_reviews/short").name == "1.0.10"
    assert fetch("tfds:tiny_reviews/short:1.0.9").name == "1.0.9"


def test_the_default_configuration_is_tfds_s(prepared, cache):
    folder = bring(prepared, cache)
    shutil.copytree(folder.parent, folder.parents[1] / "long")
    assert fetch("tfds:tiny_reviews") == folder
    assert fetch("tfds:tiny_reviews/long:1.1.0") == folder.parents[1] / "long" / "1.1.0"


def test_a_data_set_tfds_knows_nothing_of_can_be_brought_by_hand(prepared, cache):
    folder = cache / "tfds" / "our_reviews" / "2.0.0"
    shutil.copytree(prepared, folder)
    assert fetch("tfds:our_reviews:2.0.0[test]") == fetch("tfds:our_reviews") == folder


def test_of_several_configurations_brought_by_hand_one_is_to_be_named(prepared, cache):
    shutil.copytree(prepared, cache / "tfds" / "our_reviews" / "short" / "2.0.0")
    assert "expected a configuration that TensorFlow Datasets knows. Received: none. Name one" in (
        received("tfds:our_reviews")
    )
    assert fetch("tfds:our_reviews/short").name == "2.0.0"


def test_is_remote():
    assert is_remote("tfds:tiny_reviews/short[train]")


# --- killed and together ------------------------------------------------------------------


def test_a_killed_preparation_is_never_taken_for_whole_and_is_continued(server, cache, monkeypatch):
    source = "tfds:tiny_reviews/short:1.1.0"
    monkeypatch.setenv("TINY_REVIEWS_STALL", "1")
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import tfmodel, tiny_reviews, contextlib
contextlib.redirect_stdout = contextlib.nullcontext
tfmodel.fetch(sys.argv[1])
"""
    with start(code, source) as process:
        while (line := process.stdout.readline()) != "ready\n":
            assert line, process.stderr.read()
        process.send_signal(signal.SIGKILL)
    monkeypatch.delenv("TINY_REVIEWS_STALL")
    assert list(cache.rglob("incomplete.*"))
    folder = fetch(source)
    assert listed(folder) == PREPARED
    assert server.asked == 1  # what was downloaded is not asked for again
    assert not list(cache.rglob("incomplete.*")) and not list(cache.rglob(".preparing"))


def test_two_fetch_the_same_together(server):
    folders = []
    source = "tfds:tiny_reviews/short:1.1.0"
    threads = [threading.Thread(target=lambda: folders.append(fetch(source))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 2 and len(set(folders)) == 1
    assert server.asked == 1


# --- the split in brackets ----------------------------------------------------------------


def test_split_of(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(prepared, "reviews")
    Path("odd[train]").write_text("")
    shutil.copytree(prepared, "odd[1]")
    monkeypatch.setenv("REVIEWS", str(tmp_path / "reviews"))
    assert {source: split_of(source) for source in [
        "tfds:tiny_reviews", "tfds:tiny_reviews/short:1.1.0[train]", "tfds:x[train[:10%]+test]",
        "reviews", "reviews[train]", "reviews[train[:10%]]", "${REVIEWS}[test]", "odd[train]",
        "odd[1]", "odd[1][test]", "missing[train]", "hf:me/tiny@main/a[1]",
    ]} == {
        "tfds:tiny_reviews": None, "tfds:tiny_reviews/short:1.1.0[train]": "train",
        "tfds:x[train[:10%]+test]": "train[:10%]+test", "reviews": None,
        "reviews[train]": "train", "reviews[train[:10%]]": "train[:10%]",
        "${REVIEWS}[test]": "test", "odd[train]": None, "odd[1]": None, "odd[1][test]": "test",
        "missing[train]": None, "hf:me/tiny@main/a[1]": None,
    }  # fmt: skip
    assert split_of("reviews[test]", relative_to=tmp_path) == "test"


def test_a_local_folder_with_a_split(prepared, tmp_path, monkeypatch):
    assert fetch(f"{prepared}[train[:10%]]") == prepared
    assert fetch("1.1.0[test]", relative_to=prepared.parent) == prepared
    assert not is_remote(f"{prepared}[train]")


@pytest.mark.parametrize(
    "split", ["train", "train[:10%]", "train[2:-1]+test", "test[50%:]", "train[0shard]", "all"]
)
def test_what_is_taken_for_a_split_can_be_read(prepared, split):
    assert fetch(f"{prepared}[{split}]") == prepared
    builder = tfds.builder_from_directory(str(prepared))
    assert len(list(builder.as_dataset(split=split).take(1))) == 1


def test_an_unknown_split_names_the_nearest(prepared, cache, no_tfds):
    folder = bring(prepared, cache)
    source = "tfds:tiny_reviews/short:1.1.0[trian[:10%]]"
    assert received(source) == (
        f"{source}: expected a split of {folder}. Received: trian; it has train, test. "
        "Did you mean train?"
    )
    assert "Received: x; it has train, test. Name one of these." in received(f"{folder}[test+x]")


@pytest.mark.parametrize("split", ["", "train[:10%", "train[a:b]", "train+", "train test"])
def test_what_is_no_split_shows_examples(prepared, split):
    source = f"{prepared}[{split}]"
    message = received(source)
    assert f"{source}: expected a split as TFDS writes it, such as train, train[:10%] or" in message
    assert "It has the splits train, test." in message


def test_brackets_after_another_folder_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("")
    assert received(f"{tmp_path}/a.csv[train]") == (
        f"{tmp_path}/a.csv[train]: expected a TFDS folder before [train], with dataset_info.json. "
        f"Received: {tmp_path}/a.csv, which is none. Leave the brackets out, or name such a folder."
    )


# --- mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("tfds:", "a name or configuration that no data set can have"),
        ("tfds:a/b/c", "a name or configuration that no data set can have"),
        ("tfds:a/../b", "a name or configuration that no data set can have"),
        ("tfds:a/..", "a name or configuration that no data set can have"),
        ("tfds:a:1.0", "after :, no version of three numbers, but '1.0'"),
        ("tfds:a[]", "brackets that hold no split, or are not the end"),
        ("tfds:a[train]/b", "brackets that hold no split, or are not the end"),
        (
            "tfds:huggingface:glue/sst2",
            "a name of another collection, huggingface:glue/sst2, whose code is not of TFDS itself",
        ),
    ],
)
def test_a_malformed_source_shows_what_is_wrong_and_an_example(source, problem):
    assert received(source) == (
        f"{source}: expected tfds:NAME/CONFIG:VERSION[SPLIT], of which all but NAME may be left "
        f"out. Received: {problem}. Write it like tfds:imdb_reviews/plain_text:1.0.0[train]"
    )


@pytest.mark.parametrize("name", ["imdb_review", "ImdbReviews"])
def test_an_unknown_name_lists_near_ones(name):
    message = received(f"tfds:{name}")
    assert message.startswith(
        f"tfds:{name}: expected a data set that TensorFlow Datasets knows. Received: {name}. Name "
        "one of these, of "
    )
    assert ": imdb_reviews, " in message


def test_an_unknown_configuration_or_version_lists_those_there_are():
    assert received("tfds:tiny_reviews/shrt") == (
        "tfds:tiny_reviews/shrt: expected a configuration that TensorFlow Datasets knows. "
        "Received: shrt. Name one of these, of 2: short, or update the package tensorflow-datasets."
    )
    assert received("tfds:tiny_reviews/short:1.2.0") == (
        "tfds:tiny_reviews/short:1.2.0: expected a version that TensorFlow Datasets knows. "
        "Received: 1.2.0. Name one of these, of 2: 1.1.0, 1.0.0, or update the package "
        "tensorflow-datasets."
    )


def test_without_configurations_none_is_to_be_named():
    message = received("tfds:ag_news_subset/x")
    assert (
        "expected a configuration that TensorFlow Datasets knows. Received: x. Leave it out"
        in message
    )


def test_an_old_version_that_tfds_prepares_no_longer_is_told(server):
    message = received("tfds:tiny_reviews/short:1.0.0")
    assert (
        "expected TFDS to prepare it. Received: ValueError: The version of the dataset" in message
    )
    assert "too old" in message


def test_no_network_says_how_to_bring_the_folder(unreachable, cache):
    source = "tfds:tiny_reviews/short:1.1.0[train]"
    message = received(source)
    assert f"{source}: expected TFDS to prepare it. Received: no connection (" in message
    assert message.endswith(
        "Check the network. Or bring it by hand: where the data set's server can be reached, run "
        f"`python -c \"import tfmodel; tfmodel.fetch('{source}')\"`, and copy "
        f"~/.cache/tfmodel/tfds/tiny_reviews from there to {cache}/tfds/tiny_reviews."
    )


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (
            ModuleNotFoundError("No module named 'apache_beam'", name="apache_beam"),
            "no apache_beam, which it needs. Install it: pip install 'tfmodel[beam]'.",
        ),
        (ImportError("x", name="lxml"), "no lxml, which it needs. Install it: pip install lxml."),
        (
            AssertionError(
                "Manual directory x does not exist or is empty. Create it and download/extract "
                "dataset artifacts in there using instructions:\nRegister at example.org."
            ),
            "files to be downloaded by hand: Register at example.org.. Put them into {cache}/tfds/"
            "tiny_reviews/manual, then run the same again.",
        ),
        (
            urllib.error.URLError("timed out"),
            "no connection (<urlopen error timed out>). Check the network. Or bring it by hand: ",
        ),
        (KeyError("text"), "KeyError: 'text'. Or bring it by hand: "),
    ],
)
def test_other_failures_of_tfds_are_passed_on(cache, monkeypatch, error, problem):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(TinyReviews, "_split_generators", fail)
    message = received("tfds:tiny_reviews/short:1.1.0")
    assert f"expected TFDS to prepare it. Received: {problem.format(cache=cache)}" in message


def test_a_data_set_whose_code_needs_a_missing_package(monkeypatch):
    def fail(name):
        raise ImportError("No module named 'lxml'", name="lxml")

    monkeypatch.setattr(tfds, "builder_cls", fail)
    assert received("tfds:tiny_reviews/short") == (
        "tfds:tiny_reviews/short: expected TFDS to prepare it. Received: no lxml, which it needs. "
        "Install it: pip install lxml."
    )


def test_a_full_disk_names_the_cache(cache, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(TinyReviews, "_split_generators", full)
    with pytest.raises(OSError, match=f"{cache}.* expected room on the disk") as caught:
        fetch("tfds:tiny_reviews/short:1.1.0")
    assert not isinstance(caught.value, ConfigError)


def test_finding_a_prepared_data_set_imports_no_tensorflow(prepared, cache):
    bring(prepared, cache)
    code = """
import sys, tfmodel
tfmodel.fetch(sys.argv[1])
print(sorted({"tensorflow", "tensorflow_datasets"} & set(sys.modules)))
"""
    with start(code, "tfds:tiny_reviews/short:1.1.0[train]") as process:
        assert process.communicate(timeout=60)[0] == "[]\n"
