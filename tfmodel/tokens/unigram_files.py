"""What a `tokenizer.json` says of SentencePiece's unigrams, in and out."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.tokens import text_steps
from tfmodel.tokens.byte_pair_files import text_of
from tfmodel.tokens.charsmap import read_charsmap
from tfmodel.tokens.vocabulary import Vocabulary

SPECIAL_NAMES: Mapping[str, str] = MappingProxyType(
    {"padding": "pad", "unknown": "unk", "start": "cls", "end": "sep", "mask": "mask"}
)
"""What Hugging Face calls the special pieces, by role."""

_XLM_ROBERTA = {
    **{"padding": "<pad>", "unknown": "<unk>", "start": "<s>", "end": "</s>"},
    "mask": "<mask>",
}
_ALBERT = {
    **{"padding": "<pad>", "unknown": "<unk>", "start": "[CLS]", "end": "[SEP]"},
    "mask": "[MASK]",
}
_SCHEMES = ("always", "first", "never")


@dataclasses.dataclass(frozen=True)
class Splitting:
    """How texts are normalized and cut to words, and how a pair of them is joined.

    Attributes:
        normalizers: the steps, as `tokenizer.json` has them.
        at_white_space: whether words end at white space, which is left out.
        at_marks: whether a word begins at each `▁`.
        prepend: whether `▁` is put before words that do not begin with it: `always`, `first` (of
            the one at the beginning of the text alone) or `never`.
        never_text: pieces that are never found in a text.
        ends_between: how many end pieces stand between the two texts of a pair.
        has_segments: whether the second text of a pair has segment ids of its own.
    """

    normalizers: tuple[Mapping[str, Any], ...] = ()
    at_white_space: bool = True
    at_marks: bool = True
    prepend: str = "always"
    never_text: tuple[str, ...] = ()
    ends_between: int = 2
    has_segments: bool = False

    @property
    def lowercase(self) -> bool:
        """Whether texts are lower-cased first."""
        return any(step["type"] == "Lowercase" for step in self.normalizers)

    @property
    def class_name(self) -> str:
        """What `transformers` is told to load it as."""
        return "AlbertTokenizer" if self.has_segments else "XLMRobertaTokenizer"

    def settings(self) -> dict[str, Any]:
        """What `tokenizer_config.json` says of it for `transformers`."""
        if not self.has_segments:
            return {}
        strips = any(step["type"] == "StripAccents" for step in self.normalizers)
        return {
            "do_lower_case": self.lowercase,
            "keep_accents": not strips,
            # Which its class leaves out.
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        }

    def fast_values(self, vocabulary: Vocabulary, scores: Sequence[float]) -> dict[str, Any]:
        """What goes into `tokenizer.json`."""
        special, segment = vocabulary.special, int(self.has_segments)
        start, end = special["start"], special["end"]

        def token(piece: str, of: int) -> dict[str, Any]:
            return {"SpecialToken": {"id": piece, "type_id": of}}

        def text(name: str, of: int) -> dict[str, Any]:
            return {"Sequence": {"id": name, "type_id": of}}

        single = [token(start, 0), text("A", 0), token(end, 0)]
        second = [text("B", segment), token(end, segment)]
        mark = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": self.prepend}
        mark["split"] = self.at_marks
        splitters = [{"type": "WhitespaceSplit"}] if self.at_white_space else []
        steps = [dict(step) for step in self.normalizers]
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": vocabulary.ids[piece],
                    "content": piece,
                    # Blanks before a mask are of what fills it.
                    "lstrip": piece == special["mask"],
                    **dict.fromkeys(("single_word", "rstrip", "normalized"), False),
                    "special": True,
                }
                for piece in sorted(self.never_text, key=vocabulary.ids.get)
            ],
            "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splitters, mark]},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": single,
                "pair": [*single, *[token(end, 0)] * (self.ends_between - 1), *second],
                "special_tokens": {
                    piece: {"id": piece, "ids": [vocabulary.ids[piece]], "tokens": [piece]}
                    for piece in (start, end)
                },
            },
            "decoder": mark,
            "model": {
                "type": "Unigram",
                "unk_id": vocabulary.unknown_id,
                "vocab": [[p, s] for p, s in zip(vocabulary.pieces, scores, strict=True)],
                "byte_fallback": False,
            },
        }


def read_values(
    fast: Mapping[str, Any], settings: Mapping[str, Any], *, name: str
) -> tuple[Vocabulary, list[float], Splitting]:
    """Read what stands in `tokenizer.json`.

    Args:
        fast: its values, with a `model`.
        settings: what stands in `tokenizer_config.json`.
        name: what messages call the file.

    Returns:
        The pieces, their scores, and how texts are split.

    Raises:
        ConfigError: texts are split in another way than SentencePiece's unigrams, or a value is of
            another kind.
    """
    pieces, scores = _scored(fast["model"], name)
    added, odd = [], {}
    if fast["model"].get("byte_fallback"):
        odd["byte_fallback"] = True
    for token in fast.get("added_tokens") or []:
        if not isinstance(token, Mapping) or not token.get("special"):
            odd["added_tokens"] = token
            continue
        content = str(token.get("content"))
        added.append(content)
        if content not in pieces:
            if token.get("id") != len(pieces):
                odd["added_tokens"] = token
            pieces[content] = len(pieces)
            scores.append(0.0)
    usual = _ALBERT if "[CLS]" in pieces else _XLM_ROBERTA
    special = {
        role: text_of(settings.get(f"{key}_token")) or usual[role]
        for role, key in SPECIAL_NAMES.items()
    }
    vocabulary = Vocabulary(list(pieces), name=name, special=special)
    if vocabulary.unknown_id != fast["model"].get("unk_id"):
        odd["unk_id"] = fast["model"].get("unk_id")
    normalizers = _steps(fast.get("normalizer"), "normalizers")
    splitters = _steps(fast.get("pre_tokenizer"), "pretokenizers")
    splitting = Splitting(
        normalizers=tuple(normalizers),
        never_text=tuple(dict.fromkeys([*added, *(p for p in special.values() if p in pieces)])),
        **_cutting(splitters, odd),
        **_joining(fast.get("post_processor"), vocabulary, odd, usual),
    )
    try:
        normalizer_steps(splitting.normalizers, name=name)
    except _Unknown as error:
        odd["normalizer"] = str(error)
    if odd:
        raise ConfigError(
            f"{name}: expected SentencePiece's unigrams (XLM-RoBERTa's, ALBERT's). Received: "
            f"another way to split, by {', '.join(f'{key} {each!r}' for key, each in odd.items())}."
        )
    return vocabulary, scores, splitting


class _Unknown(ConfigError):
    """A step that there is none for here."""


def normalizer_steps(
    normalizers: Sequence[Mapping[str, Any]], *, name: str = "tokenizer.json"
) -> list[text_steps.Step]:
    """The steps of `tokenizer.json` as functions for a graph.

    Args:
        normalizers: the steps, as it has them.
        name: what messages call the file.

    Raises:
        ConfigError: a table is damaged.
    """
    found, left = [], list(normalizers)
    while left:
        step = left.pop(0)
        kind = step.get("type")
        if kind == "NFKD":
            # What comes after it is lost on marks alone: all three are one table.
            if not left or left.pop(0).get("type") != "StripAccents":
                raise _Unknown("NFKD without StripAccents")
            lowers = bool(left) and left[0].get("type") == "Lowercase"
            left = left[lowers:]
            found.append(text_steps.decomposed(lowercase=lowers))
        elif kind == "Lowercase":
            found.append(text_steps.lowered())
        elif kind == "Precompiled":
            found.append(text_steps.mapped(_table(step, name)))
        elif kind == "Strip":
            left_side, right = (bool(step.get(f"strip_{each}", True)) for each in ("left", "right"))
            found.append(text_steps.stripped(left=left_side, right=right))
        elif kind == "Replace":
            found.append(_replacement(step))
        else:
            raise _Unknown(str(kind))
    return found


def _table(step: Mapping[str, Any], name: str) -> dict[str, str]:
    table = step.get("precompiled_charsmap")
    try:
        content = base64.b64decode(table or "", validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ConfigError(
            f"{name}: expected precompiled_charsmap in base64. Received: {error}."
        ) from None
    return read_charsmap(content, longest=text_steps.SHORT_CLUSTER, name=name)


def _replacement(step: Mapping[str, Any]) -> text_steps.Step:
    pattern, written = step.get("pattern"), step.get("content")
    kind, found = next(iter(pattern.items())) if isinstance(pattern, Mapping) else (None, None)
    if isinstance(written, str):
        if kind == "Regex" and found == " {2,}" and len(written) == 1:
            return text_steps.without_repeated_blanks(written)
        if kind == "String" and isinstance(found, str) and len(found) == 2:
            return text_steps.replaced(found, written)
    raise _Unknown(f"Replace {found!r} by {written!r}")


def _scored(model: Mapping[str, Any], name: str) -> tuple[dict[str, int], list[float]]:
    vocab = model.get("vocab")
    pieces: dict[str, int] = {}
    scores: list[float] = []
    for entry in vocab if isinstance(vocab, list) else [None]:
        is_piece = isinstance(entry, (list, tuple)) and len(entry) == 2
        piece, score = entry if is_piece else (None, None)
        if (
            not isinstance(piece, str)
            or not isinstance(score, (int, float))
            or not math.isfinite(score)
        ):
            raise ConfigError(
                f"{name}: expected a list of pieces, each with a number. Received: {entry!r}."
            )
        if piece in pieces:
            raise ConfigError(
                f"{name}: expected every piece once. Received: {piece!r} more than once."
            )
        pieces[piece] = len(pieces)
        scores.append(float(score))
    return pieces, scores


def _steps(step: Any, key: str) -> list[Mapping[str, Any]]:
    """The steps of a sequence of them, or the one there is."""
    if not isinstance(step, Mapping):
        return []
    inner = step.get(key) if step.get("type") == "Sequence" else None
    if isinstance(inner, list):
        return [each for one in inner for each in _steps(one, key)]
    return [step]


def _cutting(splitters: Sequence[Mapping[str, Any]], odd: dict[str, Any]) -> dict[str, Any]:
    kinds = [step.get("type") for step in splitters]
    if kinds not in (["Metaspace"], ["WhitespaceSplit", "Metaspace"]):
        odd["pre_tokenizer"] = ", ".join(map(str, kinds)) or "none"
        return {}
    mark = splitters[-1]
    usual = "always" if mark.get("add_prefix_space", True) else "never"
    scheme = mark.get("prepend_scheme", usual)
    if mark.get("replacement", "▁") != "▁" or scheme not in _SCHEMES:
        odd["pre_tokenizer"] = dict(mark)
    return {
        "at_white_space": len(kinds) == 2,
        "at_marks": bool(mark.get("split", True)),
        "prepend": scheme,
    }


def _joining(
    template: Any, vocabulary: Vocabulary, odd: dict[str, Any], usual: Mapping[str, str]
) -> dict[str, Any]:
    """How a pair is joined: as the template of pairs says, else as ALBERT or XLM-RoBERTa do."""
    if not isinstance(template, Mapping):
        is_albert = usual is _ALBERT
        return {"ends_between": 1 if is_albert else 2, "has_segments": is_albert}
    parts = template.get("pair") or []
    named = [(*part.items(),)[0] for part in parts if isinstance(part, Mapping) and len(part) == 1]
    names = [each.get("id") for _, each in named if isinstance(each, Mapping)]
    start, end = vocabulary.special["start"], vocabulary.special["end"]
    for between in (1, 2):
        if names == [start, "A", *[end] * between, "B", end]:
            return {"ends_between": between, "has_segments": named[-1][1].get("type_id") == 1}
    odd["post_processor"] = names or template.get("type")
    return {}
