"""What a sentence-transformers folder says, in and out: how hidden states become a vector."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError

MODULES_FILE = "modules.json"
_PROMPTS_FILE = "config_sentence_transformers.json"
# An older file has a switch for each way to pool, a newer one their names.
_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLINGS = ("mean", "cls")
HEAD_FOLDER = "3_Dense"
"""Where a head on the vector is, of a folder that `sentence_files` made with `outputs`."""
_TYPES = "sentence_transformers.models"  # which newer releases know by this name, too
_LENGTH_FILES = tuple(
    f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "xlm-roberta")
)


@dataclasses.dataclass(frozen=True)
class SentenceSettings:
    """How a sentence-transformers model makes a vector of a text.

    Attributes:
        encoder_folder: where its encoder and tokenizer are, for `load_encoder`.
        pooling: `mean`, over the tokens that are no padding, special ones included; or `cls`, the
            first token's hidden state, without the encoder's pooler.
        normalize: whether the vector is then brought to length 1.
        max_length: tokens a text at most; None: as many as the encoder has positions for.
        prompt: what is put before every text; empty where nothing is.
    """

    encoder_folder: Path
    pooling: str
    normalize: bool
    max_length: int | None = None
    prompt: str = ""


def read_sentence_settings(
    folder: str | Path, *, with_head: bool = False
) -> SentenceSettings | None:
    """Read `modules.json` of a sentence-transformers folder, and what it names.

    Args:
        folder: a model folder.
        with_head: whether a dense module in `HEAD_FOLDER` may follow, which is not read here.

    Returns:
        What it asks for; None where the folder has no `modules.json`.

    Raises:
        ConfigError: it asks for what cannot be had (other modules, such as a dense layer; other
            ways to pool, or several at once), names a folder outside, or a file is damaged.

    Example:
        >>> read_sentence_settings("all-MiniLM-L6-v2").pooling
        'mean'
    """
    folder = Path(folder)
    path = folder / MODULES_FILE
    if not path.exists():
        return None
    modules = [_module(entry, folder, path) for entry in _read(path, list)]
    if with_head and modules and modules[-1] == ("Dense", folder / HEAD_FOLDER):
        modules = modules[:-1]
    kinds = [kind for kind, _ in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ConfigError(
            f"{path}: expected Transformer, Pooling and, where asked for, Normalize. Received: "
            f"{', '.join(kinds) or 'nothing'}. Other modules change the vector as tfmodel "
            "cannot: choose a model without them."
        )
    places = dict(modules)
    return SentenceSettings(
        encoder_folder=places["Transformer"],
        pooling=_pooling(places["Pooling"] / "config.json"),
        normalize="Normalize" in places,
        max_length=_length(places["Transformer"]),
        prompt=_prompt(folder / _PROMPTS_FILE),
    )


def sentence_files(
    settings: SentenceSettings, *, width: int, outputs: int | None = None
) -> dict[str, Any]:
    """What makes a sentence-transformers folder of an encoder's.

    Args:
        settings: how a vector is made; its `encoder_folder` is not written.
        width: numbers of a vector, D.
        outputs: C of a dense head on the vector, whose weights the caller puts into `HEAD_FOLDER`;
            None: there is none.

    Returns:
        Name of a file in the folder to its content, JSON values; `read_sentence_settings` reads it
        back, and so do all releases of sentence-transformers.
    """
    places = {"Transformer": "", "Pooling": "1_Pooling"}
    if settings.normalize:
        places["Normalize"] = "2_Normalize"
    head = {}
    if outputs is not None:
        places["Dense"] = HEAD_FOLDER
        settings_of_head = {
            "in_features": width,
            "out_features": outputs,
            "bias": True,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        head = {f"{HEAD_FOLDER}/config.json": settings_of_head}
    modules = [
        {"idx": index, "name": str(index), "path": place, "type": f"{_TYPES}.{kind}"}
        for index, (kind, place) in enumerate(places.items())
    ]
    switches = {switch: mode == settings.pooling for switch, mode in _SWITCHES.items()}
    return {
        MODULES_FILE: modules,
        "1_Pooling/config.json": {"word_embedding_dimension": width, **switches},
        **head,
        _LENGTH_FILES[0]: {"max_seq_length": settings.max_length, "do_lower_case": False},
    }


def _module(entry: Any, folder: Path, path: Path) -> tuple[str, Path]:
    """The kind of a module and its folder."""
    entry_of = entry if isinstance(entry, Mapping) else {}
    kind, place = entry_of.get("type"), entry_of.get("path")
    if not isinstance(kind, str) or not isinstance(place, str):
        raise ConfigError(f"{path}: expected modules with a type and a path. Received: {entry!r}.")
    package, _, kind = kind.rpartition(".")
    if package.partition(".")[0] != "sentence_transformers":
        raise ConfigError(
            f"{path}: expected modules of sentence_transformers. Received: {package}.{kind}, code "
            "that comes with the model, which is not run. Choose a model without it."
        )
    # The file comes with the weights, from anywhere: it may name folders inside this one alone.
    if "\\" in place or place == ".." or (place and Path(place).name != place):
        raise ConfigError(
            f"{path}: expected paths of folders in this folder. Received: {place!r}. Do not use "
            "this folder, or ask its maker."
        )
    return kind, folder / place


def _pooling(path: Path) -> str:
    config = _read(path, dict)
    named = config.get("pooling_mode")
    if named is None:
        modes = [mode for key, mode in _SWITCHES.items() if config.get(key)]
    else:
        modes = [named] if isinstance(named, str) else list(named)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ConfigError(
            f"{path}: expected pooling by one of {', '.join(POOLINGS)}. Received: "
            f"{' and '.join(map(str, modes)) or 'none'}. Choose a model that pools so."
        )
    return modes[0]


def _length(folder: Path) -> int | None:
    """Tokens a text at most."""
    settings = next((_read(folder / n, dict) for n in _LENGTH_FILES if (folder / n).exists()), {})
    if settings.get("do_lower_case"):
        tokenizer = folder / "tokenizer_config.json"
        lowers = _read(tokenizer, dict).get("do_lower_case") if tokenizer.exists() else True
        if not lowers:
            raise ConfigError(
                f"{folder}: expected texts as they are, or a tokenizer that lower-cases them. "
                "Received: do_lower_case of sentence-transformers before a cased tokenizer. Choose "
                "a model without it."
            )
    length = settings.get("max_seq_length")
    if length is not None and (type(length) is not int or length < 1):
        raise ConfigError(f"{folder}: expected max_seq_length above 0. Received: {length!r}.")
    return length


def _prompt(path: Path) -> str:
    """What is put before every text unless one asks for another."""
    settings = _read(path, dict) if path.exists() else {}
    name = settings.get("default_prompt_name")
    if name is None:
        return ""
    prompt = (settings.get("prompts") or {}).get(name)
    if not isinstance(prompt, str):
        raise ConfigError(f"{path}: expected a prompt named {name!r}, its default. Received: none.")
    return prompt


def _read(path: Path, kind: type) -> Any:
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"Expected a file at {path}, as {MODULES_FILE} says. Received: none."
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path}: expected JSON. Received: {error}.") from None
    if not isinstance(values, kind):
        word = {list: "a list", dict: "an object"}[kind]
        raise ConfigError(f"{path}: expected {word}. Received: {type(values).__name__}.")
    return values
