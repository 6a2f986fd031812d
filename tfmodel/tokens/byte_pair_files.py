"""The files of byte-level BPE: `tokenizer.json`, or `vocab.json` and `merges.txt`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError

VOCABULARY_FILE = "vocab.json"
MERGES_FILE = "merges.txt"


def read_vocabulary(path: Path) -> dict[str, int]:
    """Read `vocab.json`: pieces and their ids.

    Raises:
        ConfigError: no such file, or it holds something else.
    """
    try:
        ids = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"Expected a vocabulary file. Received: no file at {path}.") from None
    except ValueError as error:
        raise ConfigError(f"{path}: expected JSON. Received: {error}.") from None
    return _checked_ids(ids, path)


def _checked_ids(ids: Any, path: Path) -> dict[str, int]:
    if not isinstance(ids, dict) or not all(type(value) is int for value in ids.values()):
        raise ConfigError(f"{path}: expected a JSON object of pieces and their ids.")
    return ids


def read_merges(path: Path) -> list[tuple[str, str]]:
    """Read `merges.txt`: two pieces a line, in the order in which they were learnt.

    Raises:
        ConfigError: no such file, not UTF-8, or a line of other than two pieces.
    """
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except FileNotFoundError:
        raise ConfigError(f"Expected the merges of BPE. Received: no file at {path}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8. Received: byte {error.start} is not.") from None
    merges = [line.rstrip("\r") for line in lines if line and not line.startswith("#version")]
    return _checked_merges([line.split(" ") for line in merges], path)


def _checked_merges(merges: Any, path: Path) -> list[tuple[str, str]]:
    for pair in merges:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(pair):
            raise ConfigError(f"{path}: expected two pieces a merge. Received: {pair!r}.")
    return [(first, second) for first, second in merges]


def read_fast(fast: Mapping[str, Any], path: Path) -> tuple[dict, list, bool]:
    """Read what stands in `tokenizer.json`.

    Args:
        fast: its values, with a `model`.
        path: what messages call it.

    Returns:
        Pieces and their ids, special ones included; merges; and whether a blank is put before a
        text.

    Raises:
        ConfigError: texts are split in another way than RoBERTa's, or a value is of another kind.
    """
    model, splitter = fast["model"], fast.get("pre_tokenizer") or {}
    odd = {
        name: model.get(name)
        for name, usual in (
            *(("dropout", None), ("continuing_subword_prefix", ""), ("end_of_word_suffix", "")),
            *(("byte_fallback", False), ("ignore_merges", False), ("fuse_unk", False)),
        )
        if (model.get(name) or usual) != usual
    }
    if fast.get("normalizer") is not None:
        odd["normalizer"] = fast["normalizer"].get("type")
    if splitter.get("type") != "ByteLevel" or not splitter.get("use_regex", True):
        odd["pre_tokenizer"] = splitter.get("type") or "none"
    ids = dict(_checked_ids(model.get("vocab"), path))
    for added in fast.get("added_tokens") or []:
        if not isinstance(added, Mapping) or not added.get("special"):
            odd["added_tokens"] = added
        else:
            ids.setdefault(str(added.get("content")), added.get("id"))
    ids = _checked_ids(ids, path)
    if odd:
        raise ConfigError(
            f"{path}: expected RoBERTa's byte-level BPE. Received: another way to split, by "
            f"{', '.join(f'{name} {value!r}' for name, value in odd.items())}."
        )
    merges = [m.split(" ") if isinstance(m, str) else m for m in model.get("merges") or []]
    return ids, _checked_merges(merges, path), bool(splitter.get("add_prefix_space", False))


def text_of(token: Any) -> str | None:
    """A special piece as `tokenizer_config.json` names it: a string, or an object of one."""
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else None


def mask_token(piece: str) -> dict[str, Any]:
    """The mask as `tokenizer_config.json` names it: blanks before one are of what fills it."""
    flags = dict.fromkeys(("normalized", "rstrip", "single_word"), False)
    return {"__type": "AddedToken", "content": piece, "lstrip": True, **flags, "special": True}
