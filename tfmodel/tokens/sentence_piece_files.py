"""SentencePiece's own file (`spiece.model`, `sentencepiece.bpe.model`), read as a `tokenizer.json`.

It is a small protobuf: numbers of fields, and values. It is read here without its schema, and what
stands in it is turned into what `transformers` makes of it for the model that it is of.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError

FILES = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model")

# sentencepiece_model.proto: of ModelProto, its pieces, TrainerSpec and NormalizerSpec.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_PIECE, _SCORE, _TYPE = 1, 2, 3
_MODEL_TYPE, _BYTE_FALLBACK, _UNKNOWN_ID = 3, 35, 40
_CHARSMAP = 2
_UNIGRAM, _USER_DEFINED = 1, 4
_KINDS = {2: "BPE", 3: "words", 4: "characters"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_model(path: Path, *, lowercase: bool, keep_accents: bool) -> dict[str, Any]:
    """Read SentencePiece's file.

    Args:
        path: the file; `sentencepiece.bpe.model` is XLM-RoBERTa's, another one ALBERT's.
        lowercase: of ALBERT, whether texts are lower-cased first.
        keep_accents: of ALBERT, whether accents are left on their letters.

    Returns:
        The values of a `tokenizer.json`: `model`, `normalizer`, `pre_tokenizer`.

    Raises:
        ConfigError: it is damaged, or holds another kind of model than unigram.
    """
    try:
        content = path.read_bytes()
        fields = list(_fields(content))
        pieces = [_piece(value) for number, value in fields if number == _PIECES]
        if missing := {_TRAINER, _NORMALIZER} - {number for number, _ in fields}:
            raise ValueError(f"without the field {min(missing)}")
        trainer, normalizer = (dict(_fields(dict(fields)[n])) for n in (_TRAINER, _NORMALIZER))
        table = bytes(memoryview(normalizer.get(_CHARSMAP, b"")))
    except (AttributeError, IndexError, TypeError, ValueError, struct.error) as error:
        raise ConfigError(
            f"{path}: expected a SentencePiece model. Received: a damaged file ({error}). Fetch or "
            "copy it again."
        ) from None
    kind = trainer.get(_MODEL_TYPE, _UNIGRAM)
    own = [piece for piece, _, of in pieces if of == _USER_DEFINED]
    if not pieces or kind != _UNIGRAM or trainer.get(_BYTE_FALLBACK) or own:
        received = (
            "no pieces"
            if not pieces
            else f"one of {_KINDS.get(kind, kind)}"
            if kind != _UNIGRAM
            else f"pieces of a user's own, such as {own[0]!r}, at which texts are split first"
            if own
            else "one that falls back to bytes"
        )
        raise ConfigError(
            f"{path}: expected a SentencePiece model of unigrams (XLM-RoBERTa, ALBERT). Received: "
            f"{received}. Put the tokenizer.json of the same model beside it, which says how "
            "Hugging Face splits."
        )
    scored = [[piece, score] for piece, score, _ in pieces]
    unknown = trainer.get(_UNKNOWN_ID, 0)
    steps = []
    if path.name == "sentencepiece.bpe.model":
        # XLM-RoBERTa's ids begin as fairseq's do: SentencePiece's first three are not among them.
        first = [[piece, 0.0] for piece in ("<s>", "<pad>", "</s>", "<unk>")]
        scored, unknown = [*first, *scored[3:], ["<mask>", 0.0]], 3
    else:
        quotes = [
            {"type": "Replace", "pattern": {"String": q}, "content": '"'} for q in ("``", "''")
        ]
        accents = [] if keep_accents else [{"type": "NFKD"}, {"type": "StripAccents"}]
        steps = [*quotes, *accents, *([{"type": "Lowercase"}] if lowercase else [])]
    if table:
        encoded = base64.b64encode(table).decode("ascii")
        steps.append({"type": "Precompiled", "precompiled_charsmap": encoded})
    return {
        "model": {"type": "Unigram", "unk_id": unknown, "vocab": scored, "byte_fallback": False},
        "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {
                    "type": "Metaspace",
                    "replacement": "▁",
                    "prepend_scheme": "always",
                    "split": True,
                },
            ],
        },
    }


def _piece(message: bytes) -> tuple[str, float, int]:
    values = dict(_fields(message))
    (score,) = struct.unpack("<f", values.get(_SCORE, bytes(4)))
    return values[_PIECE].decode("utf-8") if _PIECE in values else "", score, values.get(_TYPE, 1)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: number and value, a whole number or bytes."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if kind == _BYTES:
            size, place = _varint(message, place)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if size > len(message) - place:
            raise ValueError(f"a field of {size} bytes where {len(message) - place} are left")
        yield number, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
