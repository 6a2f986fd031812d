"""`models.config`: TF Serving's file of what is served, read and written by its own schema."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.run_folder import write_aside

PLATFORM = "tensorflow"
_LARGEST_BYTES = 2**22
_EXAMPLE = (
    'model_config_list { config { name: "news" base_path: "/models/news" '
    'model_platform: "tensorflow" } }'
)


def read_models_config(path: str | Path) -> Any:
    """Read a `models.config`, as TF Serving's `--model_config_file` does.

    Args:
        path: a `ModelServerConfig` in protocol buffers' text format.

    Returns:
        The `ModelServerConfig`; it lists at least one model, each name once.

    Raises:
        ConfigError: no such file, another format or field, or no list of models.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    wanted = f"a list of models such as: {_EXAMPLE}"
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
        if len(content) > _LARGEST_BYTES:
            raise ConfigError(
                f"{path}: expected {wanted}. Received: more than {_LARGEST_BYTES:,} bytes."
            )
        text = content.decode("utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: expected a file of models. Received: {error.strerror}. Check the path."
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected {wanted}. Received: no UTF-8.") from None
    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(text, config)
    except (text_format.ParseError, RecursionError) as error:
        raise ConfigError(f"{path}: expected {wanted}. Received: {error}.") from None
    if not config.model_config_list.config:
        raise ConfigError(f"{path}: expected {wanted}. Received: none.")
    names = [entry.name for entry in config.model_config_list.config]
    for name in names:
        if names.count(name) > 1 or not name:
            raise ConfigError(
                f"{path}: expected each model once, with a name. Received: {name!r} "
                f"{names.count(name)} times."
            )
    return config


def write_models_config(path: str | Path, config: Any) -> None:
    """Write a `ModelServerConfig` as text, whole or not at all: a server may read at any moment.

    The comments at the head of a file that is there are kept.
    """
    from google.protobuf import text_format

    comments = ""
    with contextlib.suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as file:
        comments = "".join(itertools.takewhile(lambda line: line.startswith("#"), file))
    # A file that others may read keeps that: TF Serving is often another user.
    mode = None
    with contextlib.suppress(OSError):
        mode = Path(path).stat().st_mode & 0o777
    with write_aside(path) as aside:
        aside.write_text(comments + text_format.MessageToString(config, as_utf8=True), "utf-8")
        if mode is not None:
            aside.chmod(mode)


def check_model_name(name: str, *, option: str) -> str:
    """A name that addresses and files can have.

    Args:
        name: of a model.
        option: that chose it.

    Raises:
        ConfigError: another one.
    """
    if not name or "/" in name or ":" in name:
        raise ConfigError(
            f"Expected a model's name without / and :. Received: {name!r}. Choose another {option}."
        )
    return name


def find_model(config: Any, name: str | None, *, path: str | Path) -> Any:
    """The entry of a model.

    Args:
        config: a `ModelServerConfig`.
        name: the model's; None: the only one.
        path: what messages call the file.

    Raises:
        ConfigError: no such model, or several and no name.
    """
    entries = {entry.name: entry for entry in config.model_config_list.config}
    if name is None and len(entries) == 1:
        return next(iter(entries.values()))
    if name not in entries:
        received = "no name" if name is None else repr(name)
        raise ConfigError(
            f"{path}: expected --model to be one of {', '.join(entries)}. Received: {received}."
        )
    return entries[name]


def set_versions(entry: Any, versions: set[int], labels: Mapping[str, int]) -> None:
    """Have a `ModelConfig` serve these versions alone, with these labels."""
    entry.model_version_policy.Clear()
    entry.model_version_policy.specific.versions.extend(sorted(versions))
    entry.version_labels.clear()
    for label, version in sorted(labels.items()):
        entry.version_labels[label] = version
