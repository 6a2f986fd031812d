"""`tfds:NAME/CONFIG:VERSION[SPLIT]`: a data set that TensorFlow Datasets prepares.

The cache holds it as TFDS lays it out, `tfds/NAME/CONFIG/VERSION`, so that a folder that TFDS
prepared elsewhere can be put there by hand.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.run_folder import clear_leftovers, write_aside
from tfmodel.sources.cache import cache_folder, sole_fetcher, word_by_hand
from tfmodel.sources.splits import INFO_FILE, check_split

_log = logging.getLogger(__name__)

_EXAMPLE = "tfds:imdb_reviews/plain_text:1.0.0[train]"


@dataclass(frozen=True)
class _TfdsSource:
    """A parsed `tfds:` source; what it leaves to TFDS is None."""

    text: str
    name: str
    config: str | None
    version: str | None
    split: str | None

    @property
    def place(self) -> Path:
        return cache_folder() / "tfds" / self.name

    def written(self, config: str | None, version: str | None) -> str:
        """As TFDS writes a data set, `NAME/CONFIG:VERSION`."""
        return self.name + (f"/{config}" if config else "") + (f":{version}" if version else "")


def fetch_tfds(text: str) -> Path:
    """Have TFDS prepare the data set that a `tfds:` source names, once, in the cache.

    Without VERSION the newest that TFDS can prepare is taken, and stays the one used; a warning
    says which to pin.

    Returns:
        The folder of the data set, with `dataset_info.json`; of all splits, whichever is named.

    Raises:
        ConfigError: the source is malformed, there is no such data set, configuration, version
            or split, or TFDS cannot prepare it; the message says why.
    """
    source = _parse(text)
    folder = _find_prepared(source)
    if folder is None:
        with sole_fetcher(source.place, f"tfds:{source.name}"):
            clear_leftovers(source.place)
            folder = _find_prepared(source) or _fill(source)
    if source.version is None:
        config = None if folder.parent == source.place else folder.parent.name
        bracket = f"[{source.split}]" if source.split else ""
        pinned = f"tfds:{source.written(config, folder.name)}{bracket}"
        _log.warning("%s is not pinned: write %s", text, pinned)
    if source.split is not None:
        check_split(text, folder, source.split)
    return folder


def _parse(text: str) -> _TfdsSource:
    match = re.fullmatch(
        r"tfds:(?P<name>\w+)(?:/(?P<config>[\w.+-]+))?(?::(?P<version>\d+\.\d+\.\d+))?/?"
        r"(?:\[(?P<split>.+)\])?",
        text,
        re.ASCII,
    )
    if match is None or not (match["config"] or "a").strip("."):
        raise ConfigError(
            f"{text}: expected tfds:NAME/CONFIG:VERSION[SPLIT], of which all but NAME may be left "
            f"out. Received: {_word_wrong_part(text)}. Write it like {_EXAMPLE}"
        )
    return _TfdsSource(text, match["name"], match["config"], match["version"], match["split"])


def _word_wrong_part(text: str) -> str:
    named = text.removeprefix("tfds:").partition("[")[0]
    if re.match(r"[A-Za-z]\w*:[A-Za-z]", named):
        return f"a name of another collection, {named}, whose code is not of TFDS itself"
    if ":" in named and not re.search(r":\d+\.\d+\.\d+/?$", named):
        return f"after :, no version of three numbers, but {named.partition(':')[2]!r}"
    if "[" in text:
        return "brackets that hold no split, or are not the end"
    return "a name or configuration that no data set can have"


def _find_prepared(source: _TfdsSource) -> Path | None:
    """The data set in the cache, its newest version where none is named; asks no TFDS."""
    config = source.config or _default_config(source.place)
    above = source.place / config if config else source.place
    found = [
        path.parent
        for path in above.glob(f"*/{INFO_FILE}")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
        and source.version in (None, path.parent.name)
    ]
    return max(found, key=lambda path: [*map(int, path.name.split("."))], default=None)


def _default_config(place: Path) -> str | None:
    """The configuration that TFDS noted to be the default one; None where there are none."""
    try:
        noted = json.loads((place / ".config" / "metadata.json").read_bytes())
        return noted["default_config_name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


# --- preparing ----------------------------------------------------------------------------


def _fill(source: _TfdsSource) -> Path:
    """Prepare beside the cache's place, where downloads outlast a killed process, and move."""
    workplace = source.place / ".preparing"
    with _worded_failures(source):
        builder = _builder(source, workplace)
    prepared = Path(builder.data_path)
    folder = source.place / prepared.relative_to(workplace / source.name)
    if (folder / INFO_FILE).exists():  # brought by hand, without TFDS's note of the default
        return folder
    with write_aside(folder, replace=True) as aside:
        _prepare(source, builder, workplace)
        noted = workplace / source.name / ".config"
        if noted.is_dir():
            shutil.copytree(noted, source.place / ".config", dirs_exist_ok=True)
        prepared.rename(aside)
    shutil.rmtree(workplace, ignore_errors=True)
    _log.info("Prepared %s in %s", source.written(source.config, folder.name), folder)
    return folder


def _builder(source: _TfdsSource, workplace: Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        of_name = tfds.builder_cls(source.name)
        known = of_name.name == source.name
    except tfds.core.DatasetNotFoundError:
        known = False
    by_hand = {path.parents[1].name for path in source.place.glob(f"*/*/{INFO_FILE}")}
    if not known and by_hand:
        raise _unknown(source, "configuration", source.config or "none", sorted(by_hand))
    if not known:
        names = tfds.list_builders(with_community_datasets=False)
        raise _unknown(source, "data set", source.name, names)
    if source.config and source.config not in of_name.builder_configs:
        raise _unknown(source, "configuration", source.config, of_name.builder_configs)
    builder = tfds.builder(source.written(source.config, None), data_dir=str(workplace))
    if source.version is None:
        return builder
    versions = [str(version) for version in builder.versions]
    if source.version not in versions:
        raise _unknown(source, "version", source.version, versions)
    return tfds.builder(source.written(source.config, source.version), data_dir=str(workplace))


def _unknown(source: _TfdsSource, what: str, name: str, known: Iterable[str]) -> ConfigError:
    known = list(known)
    near = difflib.get_close_matches(name.lower(), known, n=5) or known[:5]
    hint = f"Name one of these, of {len(known):,}: {', '.join(near)}" if near else "Leave it out"
    return ConfigError(
        f"{source.text}: expected a {what} that TensorFlow Datasets knows. Received: {name}. "
        f"{hint}, or update the package tensorflow-datasets."
    )


def _prepare(source: _TfdsSource, builder: Any, workplace: Path) -> None:
    import tensorflow_datasets as tfds

    for leftover in Path(builder.data_path).parent.glob("incomplete.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    _log.info(
        "Preparing %s with TensorFlow Datasets; an address that does not answer is tried for some "
        "minutes",
        source.text,
    )
    config = tfds.download.DownloadConfig(manual_dir=str(source.place / "manual"))
    # TFDS prints what it does.
    with _worded_failures(source), contextlib.redirect_stdout(sys.stderr):
        builder.download_and_prepare(
            download_dir=str(workplace / "downloads"), download_config=config
        )


@contextlib.contextmanager
def _worded_failures(source: _TfdsSource) -> Iterator[None]:
    """Turn what TFDS raises, of many kinds and from the data set's own code too, into words."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if "No space left on device" in str(error) or "Disk quota exceeded" in str(error):
            raise  # `write_aside` names the folder
        raise ConfigError(_word_failure(source, error)) from error


def _word_failure(source: _TfdsSource, error: Exception) -> str:
    from urllib.error import HTTPError, URLError

    import requests

    fix = word_by_hand(source.text, source.place, "the data set's server")
    said = " ".join(str(error).split())
    unreachable = (requests.ConnectionError, requests.Timeout, ConnectionError, URLError)
    if isinstance(error, unreachable) and not isinstance(error, HTTPError):
        received = f"no connection ({said[:300]})"
        fix = f"Check the network. {fix}"
    elif isinstance(error, ImportError):
        package = error.name or "a package"
        wanted = "'tfmodel[beam]'" if package == "apache_beam" else package
        received = f"no {package}, which it needs"
        fix = f"Install it: pip install {wanted}"
    elif "Manual directory" in said:
        # The instructions come after the words about the folder.
        received = f"files to be downloaded by hand: {said.rpartition('instructions:')[2].strip()}"
        fix = f"Put them into {source.place / 'manual'}, then run the same again"
    else:
        received = f"{type(error).__name__}: {said[:500]}"
    return f"{source.text}: expected TFDS to prepare it. Received: {received}. {fix}."
