"""Byte-level BPE in the graph, as RoBERTa reads texts: ids and offsets of Hugging Face's.

No operation of TensorFlow Text has it, so core TensorFlow does, for all words of a batch at once:
characters are cut to words by their kinds, and in each word the pair that was learnt first is
joined, again and again, until no pair is left that was learnt.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.tokens.byte_pair_files import (
    MERGES_FILE,
    VOCABULARY_FILE,
    mask_token,
    read_fast,
    read_merges,
    read_vocabulary,
    text_of,
)
from tfmodel.tokens.byte_words import words_of_bytes
from tfmodel.tokens.offsets import bytes_before, characters_before
from tfmodel.tokens.row_tokenizer import RowTokenizer, check_limit
from tfmodel.tokens.vocabulary import Vocabulary

SPECIAL_PIECES = {
    "padding": "<pad>",
    "unknown": "<unk>",
    "start": "<s>",
    "end": "</s>",
    "mask": "<mask>",
}
"""RoBERTa's special pieces by role."""

_NEVER = np.iinfo(np.int32).max
_BLANK = ord(" ")


class BytePairTokenizer(RowTokenizer):
    """Strings in, RoBERTa's token batches out, as TensorFlow graph operations.

    A row is `<s> text </s>`, or `<s> text </s></s> second text </s>`; segment ids are all 0.

    Args:
        vocabulary: pieces in the letters that stand for bytes (`Ġmoon`), and the special ones.
        merges: pairs of pieces in the order in which they were learnt.
        add_prefix_space: read a text as if it began with a blank.
        max_length: tokens a row at most, special tokens included; in [4, 100000].

    Raises:
        ConfigError: `max_length` is out of range, a byte has no piece, or a merge names a piece
            that is not in the vocabulary.

    Source: Radford et al. 2019 (GPT-2), section 2.2; `ByteLevel` and `BPE` of Hugging Face's
    tokenizers. Deviation: special pieces in a text are text.

    Example:
        >>> tokenizer = load_tokenizer("roberta/")
        >>> tokenizer(["How far is the moon?"])["token_ids"].shape
        TensorShape([1, 8])
    """

    kind = "byte_pairs"
    ends_between = 2
    has_segments = False
    has_blanks = True

    def __init__(
        self,
        vocabulary: Vocabulary,
        merges: Sequence[tuple[str, str]],
        *,
        add_prefix_space: bool = False,
        max_length: int = 512,
    ):
        check_limit("max_length", max_length)
        self.vocabulary = vocabulary
        self.merges = [(first, second) for first, second in merges]
        self.add_prefix_space = add_prefix_space
        self.max_length = max_length
        self._of_byte = _ids_of_bytes(vocabulary)
        self._pairs = _Pairs(vocabulary, self.merges)
        blank = byte_letters()[_BLANK]
        self._blanks = tuple(
            tf.constant([len(piece) - len(strip(piece, blank)) for piece in vocabulary.pieces])
            for strip in (str.lstrip, str.rstrip)
        )
        self._split = tf.function(
            self._split_all,
            input_signature=[tf.TensorSpec((None,), tf.string)],
            autograph=False,
            reduce_retracing=True,
        )

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Split texts into piece ids, without special tokens or truncation.

        Args:
            texts: string tensor (B,).

        Returns:
            int32 ragged tensor (B, None).
        """
        ids, _, splits = self._split(self._prefixed(texts))
        return tf.RaggedTensor.from_row_splits(ids, splits, validate=False)

    def tokenize_with_offsets(
        self, texts: tf.Tensor | Sequence[str]
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Split texts into piece ids and say where in the text each piece stands.

        Args:
            texts: strings (B,), UTF-8.

        Returns:
            `ids`, `starts` and `ends`, each an int32 ragged tensor (B, None), counted in
            characters. A blank before a word is not the word's, though its piece begins with it;
            pieces that share the bytes of one character each have that character.
        """
        texts = tf.convert_to_tensor(texts, tf.string)
        prefixed = self._prefixed(texts)
        ids, starts, splits = self._split(prefixed)
        size = tf.reduce_sum(tf.strings.length(prefixed))
        ends = tf.concat([starts[1:], [tf.cast(size, tf.int64)]], 0)[: tf.size(starts)]
        before = characters_before(prefixed)
        rows = tf.repeat(tf.range(tf.size(prefixed)), splits[1:] - splits[:-1])
        skipped = tf.gather(tf.gather(before, bytes_before(prefixed)), rows)
        # The characters that the first and the last byte are of, without the blank put before.
        added = tf.gather(tf.strings.length(prefixed) - tf.strings.length(texts), rows)
        first = tf.maximum(tf.gather(before, starts + 1) - 1 - skipped - added, 0)
        last = tf.gather(before, ends) - skipped - added
        leading, trailing = (tf.gather(blanks, ids) for blanks in self._blanks)
        if self.add_prefix_space:
            leading = tf.where((first == 0) & (leading == 1), 0, leading)
        first = tf.minimum(first + leading, last)
        last = tf.maximum(last - trailing, first)

        def ragged(values):
            return tf.RaggedTensor.from_row_splits(values, splits, validate=False)

        return ragged(ids), ragged(first), ragged(last)

    @property
    def puts_blank(self) -> bool:
        """Whether a text is read as if a blank stood before it."""
        return self.add_prefix_space

    def written(self) -> list[str]:
        """How each piece is written in a text, as `RowTokenizer.written` says."""
        special = {*self.vocabulary.special.values()}
        return [
            piece if piece in special else _text_of_letters(piece)
            for piece in self.vocabulary.pieces
        ]

    def save(self, folder: str | Path) -> None:
        """Write `vocab.json`, `merges.txt` and `tokenizer_config.json` as Hugging Face does."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["#version: 0.2", *(" ".join(pair) for pair in self.merges)]
        (folder / MERGES_FILE).write_text("\n".join(lines) + "\n", "utf-8")
        special = self.vocabulary.special
        settings = {
            "tokenizer_class": "RobertaTokenizer",
            "add_prefix_space": self.add_prefix_space,
            "model_max_length": self.max_length,
            "bos_token": special["start"],
            "eos_token": special["end"],
            "cls_token": special["start"],
            "sep_token": special["end"],
            "unk_token": special["unknown"],
            "pad_token": special["padding"],
            "mask_token": mask_token(special["mask"]),
        }
        for name, values in (
            (VOCABULARY_FILE, self.vocabulary.ids),
            ("tokenizer_config.json", settings),
        ):
            text = json.dumps(values, indent=2, ensure_ascii=False)
            (folder / name).write_text(text + "\n", "utf-8")

    @classmethod
    def from_files(
        cls, folder: Path, fast: Mapping[str, Any], settings: Mapping[str, Any], *, max_length: int
    ) -> BytePairTokenizer:
        """Read the files of a model folder.

        Args:
            folder: with `tokenizer.json`, or `vocab.json` and `merges.txt`.
            fast: what stands in `tokenizer.json`; empty where there is none.
            settings: what stands in `tokenizer_config.json`.
            max_length: tokens a row at most.

        Raises:
            ConfigError: a file is missing or no such file, or texts are split in another way.
        """
        if fast:
            path = folder / "tokenizer.json"
            ids, merges, prefixed = read_fast(fast, path)
        else:
            path = folder / VOCABULARY_FILE
            ids, merges = read_vocabulary(path), read_merges(folder / MERGES_FILE)
            prefixed = settings.get("add_prefix_space", False)
        special = {
            role: text_of(settings.get(f"{name}_token")) or SPECIAL_PIECES[role]
            for role, name in (
                *(("padding", "pad"), ("unknown", "unk"), ("start", "cls"), ("end", "sep")),
                ("mask", "mask"),
            )
        }
        pieces = sorted(ids, key=ids.get)
        if [ids[piece] for piece in pieces] != list(range(len(pieces))):
            raise ConfigError(f"{path}: expected ids 0 to {len(pieces) - 1}, each once.")
        return cls(
            Vocabulary(pieces, name=str(path), special=special),
            merges,
            add_prefix_space=bool(prefixed),
            max_length=max_length,
        )

    def _prefixed(self, texts: tf.Tensor) -> tf.Tensor:
        if not self.add_prefix_space:
            return texts
        begins = tf.strings.regex_full_match(texts, r"(?s)( .*)?")
        return tf.where(begins, texts, tf.strings.join([" ", texts]))

    def _split_all(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Piece ids int32 (P,), the first byte of each int64 (P,), row splits int64 (B + 1,).

        Bytes are counted from the first of the first text on.
        """
        joined = tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8)
        words = words_of_bytes(texts, tf.size(joined, tf.int64))
        ids = tf.gather(self._of_byte, tf.cast(joined, tf.int32))
        starts = tf.range(tf.size(joined, tf.int64))
        ids, starts = self._pairs.join(ids, starts, words)
        ends = bytes_before(texts) + tf.cast(tf.strings.length(texts), tf.int64)
        splits = tf.searchsorted(starts, ends, out_type=tf.int64)
        return ids, starts, tf.pad(splits, [[1, 0]])


class _Pairs:
    """Which pairs of pieces were learnt, and when: looked up by search in a sorted array.

    A table would be quicker to ask, but is a resource, which a graph cannot hold as a constant.
    """

    def __init__(self, vocabulary: Vocabulary, merges: Sequence[tuple[str, str]]):
        learnt = {}
        for rank, (first, second) in enumerate(merges):
            try:
                pair = vocabulary.ids[first] * len(vocabulary) + vocabulary.ids[second]
                learnt[pair] = (rank, vocabulary.ids[first + second])
            except KeyError as error:
                raise ConfigError(
                    f"Expected merges of pieces of the vocabulary. Received: {first!r} with "
                    f"{second!r}, where there is no piece {error.args[0]!r}. Take vocabulary and "
                    "merges of the same model."
                ) from None
        keys = sorted(learnt)
        # One more than any pair, so that every search ends on an entry.
        self._keys = tf.constant([*keys, len(vocabulary) ** 2], tf.int64)
        self._ranks = tf.constant([*(learnt[key][0] for key in keys), _NEVER], tf.int32)
        self._joined = tf.constant([*(learnt[key][1] for key in keys), 0], tf.int32)
        self._size = len(vocabulary)
        # Whether what is made of a pair is joined to others by later merges alone.
        made = {vocabulary.pieces[new]: rank for rank, new in learnt.values()}
        self._is_ordered = len(made) == len(learnt) and all(
            rank > made.get(piece, -1) for rank, pair in enumerate(merges) for piece in pair
        )

    def join(
        self, ids: tf.Tensor, starts: tf.Tensor, words: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Join pairs until none is left.

        Args:
            ids: int32 (n,), a piece for each byte.
            starts: int64 (n,), the first byte of each.
            words: int32 (n,), ascending: the word of each.

        Returns:
            `ids` and `starts` of what is left.
        """
        count = tf.reduce_max(tf.concat([words, [-1]], 0)) + 1

        def look_up(ids, words):
            pairs = tf.cast(ids[:-1], tf.int64) * self._size + tf.cast(ids[1:], tf.int64)
            found = tf.searchsorted(self._keys, pairs)
            is_pair = (tf.gather(self._keys, found) == pairs) & (words[:-1] == words[1:])
            ranks = tf.where(is_pair, tf.gather(self._ranks, found), _NEVER)
            return ranks, tf.gather(self._joined, found)

        def step(ids, starts, words, ranks, joined):
            # In each word the pair that was learnt first.
            of = words[:-1]
            best = tf.gather(tf.math.unsorted_segment_min(ranks, of, count), of)
            places = tf.where((ranks == best) & (ranks < _NEVER))[:, 0]
            places = tf.boolean_mask(places, self._joins_now(places, tf.gather(of, places)))
            ids = tf.tensor_scatter_nd_update(ids, places[:, None], tf.gather(joined, places))
            gone = tf.scatter_nd(
                places[:, None] + 1, tf.ones_like(places, tf.int32), tf.shape(ids, tf.int64)
            )
            kept = gone == 0
            ids, starts, words = (tf.boolean_mask(each, kept) for each in (ids, starts, words))
            return ids, starts, words, *look_up(ids, words)

        ids, starts, *_ = tf.while_loop(
            lambda ids, starts, words, ranks, joined: tf.reduce_any(ranks < _NEVER),
            step,
            (ids, starts, words, *look_up(ids, words)),
            shape_invariants=(tf.TensorShape([None]),) * 5,
        )
        return ids, starts

    def _joins_now(self, places: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        """Which of the best pairs of each word are joined at once: bool (k,).

        Args:
            places: int64 (k,), ascending: where such a pair begins.
            words: int32 (k,), the word of each.
        """
        if not self._is_ordered:  # what is made by the first may come before the others then
            return tf.concat([[-1], words[:-1]], 0) != words
        # All of them, but that of "aaaa" the second pair shares a piece with the first.
        is_apart = tf.concat([[-2], places[:-1]], 0) + 1 != places
        run = tf.cumsum(tf.cast(is_apart, tf.int64)) - 1
        begins = tf.gather(tf.where(is_apart)[:, 0], run)
        return (tf.range(tf.size(places, tf.int64)) - begins) % 2 == 0


@functools.cache
def byte_letters() -> tuple[str, ...]:
    """The letter that stands for each of the 256 bytes.

    Source: `bytes_to_unicode` of GPT-2: printable ones are themselves, the rest moves behind them.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(moved)) for byte in range(256))


@functools.cache
def _bytes_of_letters() -> dict[str, int]:
    return {letter: byte for byte, letter in enumerate(byte_letters())}


def _text_of_letters(piece: str) -> str:
    """What a piece stands for."""
    of_letter = _bytes_of_letters()
    if not all(letter in of_letter for letter in piece):  # one that was added, as it is
        return piece
    content = bytes(of_letter[letter] for letter in piece)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        rest = content.removeprefix(b" ")
        return " " * (len(content) - len(rest)) + "".join(f"<0x{byte:02X}>" for byte in rest)


def _ids_of_bytes(vocabulary: Vocabulary) -> tf.Tensor:
    missing = [letter for letter in byte_letters() if letter not in vocabulary.ids]
    if missing:
        raise ConfigError(
            "Expected a vocabulary of byte-level BPE, with a piece for each of the 256 bytes. "
            f"Received: one without {len(missing)} of them, such as {missing[0]!r}."
        )
    return tf.constant([vocabulary.ids[letter] for letter in byte_letters()], tf.int32)
