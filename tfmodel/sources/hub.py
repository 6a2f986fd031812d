"""`hf:OWNER/NAME@REVISION/PATH`: files of a repository on the Hugging Face hub.

huggingface_hub does the talking; what it brings is held to the sizes and hashes that the hub
lists for the commit, and to what may be taken from anywhere: no code, no pickles.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from tfmodel.config import ConfigError
from tfmodel.run_folder import clear_leftovers, write_aside
from tfmodel.sources.cache import sole_fetcher
from tfmodel.sources.hub_client import HubFile, HubSource, download_file, list_files, resolve
from tfmodel.sources.members import excess, is_code, is_safe, nearest_entries

_log = logging.getLogger(__name__)

_EXAMPLE = "hf:OWNER/NAME@0123456789abcdef0123456789abcdef01234567/PATH"
_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch_hub(text: str) -> Path:
    """Bring the file or folder that an `hf:` source names into the cache.

    A branch or tag is resolved to a commit once; a warning says which one to pin.

    Args:
        text: `hf:OWNER/NAME@REVISION/PATH`, or `hf:datasets/OWNER/NAME@REVISION/PATH` for a
            data set; without PATH the whole repository, without REVISION `main`.

    Raises:
        ConfigError: the source is malformed, there is no such repository, revision or path, it
            may not be read, cannot be reached, or is not what the hub lists.
    """
    source = _parse(text)
    commit = _known_commit(source)
    if commit is None or not source.wanted(commit).exists():
        with sole_fetcher(source.place, source.repository):
            clear_leftovers(source.place)
            commit = _known_commit(source) or _resolve_once(source)
            if not source.wanted(commit).exists():
                _fill(source, commit)
    if source.revision != commit:
        _log.warning("%s is not pinned: write %s", text, source.pinned_to(commit))
    return source.wanted(commit)


def _parse(text: str) -> HubSource:
    name = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
    match = re.fullmatch(
        rf"hf:(?P<kind>datasets/)?(?P<owner>{name})/(?P<name>{name})"
        r"(?:@(?P<revision>[^/@]+))?(?:/(?P<path>.+?))?/?",
        text,
    )
    revision = unquote((match and match["revision"]) or "main")
    wrong = (
        match is None
        or match["owner"] in ("datasets", "spaces")
        or not is_safe(revision)
        or not is_safe(match["path"] or "whole")
    )
    if wrong:
        raise ConfigError(
            f"{text}: expected hf:OWNER/NAME@REVISION/PATH, or hf:datasets/OWNER/NAME@… for a "
            f"data set. Received: {_word_wrong_part(text)}. Write it like {_EXAMPLE}"
        )
    kind = "dataset" if match["kind"] else "model"
    repository = f"{match['owner']}/{match['name']}"
    return HubSource(text, kind, repository, revision, match["path"] or "")


def _word_wrong_part(text: str) -> str:
    named = text.removeprefix("hf:").removeprefix("datasets/")
    if named.startswith("spaces/"):
        return "a space, which is a program"
    if "/" not in named.partition("@")[0].strip("/"):
        return "a repository without its owner (OWNER/NAME)"
    return "a repository, revision or path that the hub cannot have"


def _known_commit(source: HubSource) -> str | None:
    """The commit a source stands for, if that is known without asking the hub."""
    if _COMMIT.fullmatch(source.revision):
        return source.revision
    resolved = _resolved_path(source)
    return resolved.read_text(encoding="utf-8").strip() if resolved.exists() else None


def _resolved_path(source: HubSource) -> Path:
    return source.place / "revisions" / quote(source.revision, safe="")


def _resolve_once(source: HubSource) -> str:
    commit = resolve(source)
    with write_aside(_resolved_path(source)) as aside:
        aside.write_text(f"{commit}\n", encoding="utf-8")
    return commit


def _fill(source: HubSource, commit: str) -> None:
    """Download into the cache; files that a killed process had whole are not fetched again."""
    files, left_out = _select(source, list_files(source, commit))
    wanted = source.wanted(commit)
    downloads = source.place / ".downloads" / wanted.parent.name
    with write_aside(wanted.parent, replace=True) as aside:
        for name, file in files.items():
            downloaded = download_file(source, commit, name, downloads)
            _check(source, name, file, downloaded)
        for name in files:
            inside = PurePosixPath(name).relative_to(source.path)
            (aside / wanted.name / inside).parent.mkdir(parents=True, exist_ok=True)
            (downloads / name).rename(aside / wanted.name / inside)
    shutil.rmtree(downloads, ignore_errors=True)
    size = sum(file.size_bytes for file in files.values()) / 1e6
    note = f", left out {left_out} files of code" if left_out else ""
    _log.info(
        "Fetched %d files, %.1f MB, of %s at %s into %s%s",
        len(files), size, source.repository, commit, wanted, note,
    )  # fmt: skip


def _select(source: HubSource, listed: Mapping[str, HubFile]) -> tuple[dict[str, HubFile], int]:
    """The files to take, and how many were left out as code."""
    under = f"{source.path}/" if source.path else ""
    named = {
        name: file for name, file in listed.items() if not under or f"{name}/".startswith(under)
    }
    if not named:
        near = ", ".join(nearest_entries(source.path, listed)) or "nothing"
        raise ConfigError(
            f"{source.text}: expected {source.path or 'files'} in {source.repository}. Received: "
            f"no such entry. It holds, among {len(listed):,} files: {near}. Name one of these."
        )
    taken = {name: file for name, file in named.items() if not is_code(name)}
    if not taken:
        raise ConfigError(
            f"{source.text}: expected data. Received: code or pickles alone, such as "
            f"{next(iter(named))}, which tfmodel never takes. Name a file or folder of data "
            "(weights as .safetensors)."
        )
    unsafe = next((name for name in taken if not is_safe(name)), None)
    problem = (
        f"a name that leads out of its folder: {unsafe!r}"
        if unsafe
        else excess({name: file.size_bytes for name, file in taken.items()})
    )
    if problem:
        raise ConfigError(
            f"{source.text}: expected files that are safe to take. Received: {problem}. Nothing "
            "was fetched; name a part of it by a PATH, or another source."
        )
    return taken, len(named) - len(taken)


def _check(source: HubSource, name: str, file: HubFile, path: Path) -> None:
    """Hold a downloaded file to what the hub lists; one that differs is removed."""
    size_bytes = path.stat().st_size
    digest, expected = None, file.sha256 or file.git_sha1
    if expected:
        digest = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % size_bytes)
        with path.open("rb") as opened:
            while block := opened.read(2**20):
                digest.update(block)
    if size_bytes == file.size_bytes and (digest is None or digest.hexdigest() == expected):
        return
    path.unlink()
    raise ConfigError(
        f"{source.text}: expected {name} with {file.size_bytes:,} bytes and the hash {expected}. "
        f"Received: {size_bytes:,} bytes{f' with {digest.hexdigest()}' if digest else ''}. Try "
        "again; if it stays so, do not use it."
    )
