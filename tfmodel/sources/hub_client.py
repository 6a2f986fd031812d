"""The Hugging Face hub as huggingface_hub speaks to it, and its failures in words.

HF_ENDPOINT, HF_TOKEN and huggingface_hub's other variables apply.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.sources.cache import cache_folder, word_by_hand


@dataclass(frozen=True)
class HubSource:
    """A parsed `hf:` source; `path` is empty for the whole repository."""

    text: str
    kind: str  # "model" or "dataset"
    repository: str
    revision: str
    path: str

    @property
    def place(self) -> Path:
        """The folder of the cache for all that is fetched from the repository."""
        prefix = "datasets--" if self.kind == "dataset" else ""
        return cache_folder() / "hf" / (prefix + self.repository.replace("/", "--"))

    def pinned_to(self, commit: str) -> str:
        """The same source, written with a commit."""
        prefix = "datasets/" if self.kind == "dataset" else ""
        path = f"/{self.path}" if self.path else ""
        return f"hf:{prefix}{self.repository}@{commit}{path}"

    def wanted(self, commit: str) -> Path:
        """Where the file or folder of a commit stands in the cache."""
        key = hashlib.sha256(self.path.encode()).hexdigest()[:8]
        name = PurePosixPath(self.path or self.repository).name
        return self.place / f"{commit[:12]}-{key}" / name


@dataclass(frozen=True)
class HubFile:
    """What the hub lists of a file; a hash that it does not tell is None."""

    size_bytes: int
    sha256: str | None  # of large files
    git_sha1: str | None  # of all others


def _hub(source: HubSource) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigError(
            f"{source.text}: expected the package huggingface_hub, which fetches it. Received: "
            "none. Install it: pip install 'tfmodel[hub]'"
        ) from None
    return huggingface_hub


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def resolve(source: HubSource) -> str:
    """Ask the hub which commit the source's revision is now.

    Raises:
        ConfigError: there is none, or the hub cannot be asked.
    """
    with _worded_failures(source):
        return _ask(source, source.revision).sha


def list_files(source: HubSource, commit: str) -> dict[str, HubFile]:
    """List all files of a commit by their names.

    Raises:
        ConfigError: there is no such commit, or the hub cannot be asked.
    """
    with _worded_failures(source):
        info = _ask(source, commit, files_metadata=True)
    files = {}
    for file in info.siblings or []:
        large = file.lfs
        files[file.rfilename] = HubFile(
            size_bytes=file.size or 0,
            sha256=large.sha256 if large else None,
            git_sha1=None if large else file.blob_id,
        )
    return files


def _ask(source: HubSource, revision: str, **options: bool) -> Any:
    api = _hub(source).HfApi(endpoint=_endpoint())
    return api.repo_info(source.repository, repo_type=source.kind, revision=revision, **options)


def download_file(source: HubSource, commit: str, name: str, folder: Path) -> Path:
    """Download one file of a commit under a folder, where that is not done yet.

    A connection that breaks is taken up again where it broke.

    Raises:
        ConfigError: it may not be read, or the hub cannot be asked.
        OSError: the disk is full.
    """
    with _worded_failures(source):
        path = _hub(source).hf_hub_download(
            source.repository,
            name,
            repo_type=source.kind,
            revision=commit,
            local_dir=folder,
            endpoint=_endpoint(),
        )
    return Path(path)


# --- failures -----------------------------------------------------------------------------


@contextmanager
def _worded_failures(source: HubSource) -> Iterator[None]:
    """Turn what huggingface_hub raises, of its own and of its HTTP library's, into words."""
    _hub(source)
    from huggingface_hub import errors

    try:
        yield
    except (OSError, ValueError, errors.HTTPError) as error:
        of_this_machine = isinstance(error, OSError) and error.errno is not None
        if of_this_machine and not isinstance(error, ConnectionError):
            raise  # such as a full disk
        raise ConfigError(_word_failure(source, error)) from error


def _word_failure(source: HubSource, error: Exception) -> str:
    from huggingface_hub import errors

    kind = "data set" if source.kind == "dataset" else "model"
    page = f"{_endpoint()}/{'datasets/' if source.kind == 'dataset' else ''}{source.repository}"
    cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    fix = word_by_hand(source.text, source.place, "the hub")
    if isinstance(cause, errors.GatedRepoError) or status == 403:
        received = f"a refusal (HTTP {status}): it is gated or private"
        fix = f"Ask for access on {page}, then set HF_TOKEN to a token of that account"
    elif isinstance(cause, errors.RevisionNotFoundError):
        received = f"no revision {source.revision}{_word_near_revisions(source)}"
        fix = "Name a branch, a tag or a commit of it"
    elif isinstance(cause, errors.RepositoryNotFoundError) or status == 401:
        other = "hf:OWNER/NAME" if source.kind == "dataset" else "hf:datasets/OWNER/NAME"
        received = f"no {kind} of this name that may be read here (HTTP {status})"
        fix = (
            f"Check the name ({'a model' if kind == 'data set' else 'a data set'} is {other}); "
            "for a private or gated one set HF_TOKEN"
        )
    elif isinstance(cause, errors.OfflineModeIsEnabled):
        received = "HF_HUB_OFFLINE, which forbids to ask the hub"
        fix = f"Unset it. {fix}"
    elif status is not None:
        received = f"HTTP {status} from {_endpoint()}"
        fix = f"Try again later. {fix}"
    elif isinstance(cause, ValueError):
        received = f"what the hub does not answer, or a name it cannot have ({cause})"
        fix = f"Check the name and HF_ENDPOINT, {_endpoint()}"
    else:
        reason = " ".join(str(cause).split())[:200] or type(cause).__name__
        received = f"no connection to {_endpoint()} ({reason})"
        fix = f"Check the network and HF_ENDPOINT. {fix}"
    return f"{source.text}: expected the {kind} {source.repository}. Received: {received}. {fix}."


def _word_near_revisions(source: HubSource) -> str:
    try:
        api = _hub(source).HfApi(endpoint=_endpoint())
        refs = api.list_repo_refs(source.repository, repo_type=source.kind)
    except Exception:  # only a help: the failure to be worded is another
        return ""
    names = [ref.name for ref in (*refs.branches, *refs.tags)]
    near = difflib.get_close_matches(source.revision, names, n=5, cutoff=0) or names[:5]
    return f"; it has {', '.join(near)}" if near else ""
