"""What every tokenizer does with the pieces of its texts: cuts, joins and pads them."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.tokens.character_clusters import words_by_characters
from tfmodel.tokens.combining_marks import whole_offsets
from tfmodel.tokens.vocabulary import Vocabulary

SHORTEST_LIMIT = 4


class RowTokenizer(abc.ABC):
    """Strings in, token batches out, as TensorFlow graph operations.

    Attributes:
        kind: how it splits: `wordpiece`, `byte_pairs` or `unigram`.
        vocabulary: the pieces, and the ids of those with a meaning of their own.
        max_length: tokens a row at most.
        lowercase: whether texts are lower-cased first.
        ends_between: how many end pieces stand between the two texts of a pair.
        has_segments: whether the second text of a pair has segment ids of its own.
        template: what texts are put into; empty where they stand by themselves.
        has_blanks: whether the blank before a word is part of its first piece.
        puts_blank: whether a text is read as if a blank stood before it.
        reads_beginnings_otherwise: whether that is so of the beginning of a whole text alone.
    """

    kind: str
    vocabulary: Vocabulary
    max_length: int
    lowercase: bool = False
    ends_between: int = 1
    has_segments: bool = True
    template: str = ""
    has_blanks: bool = False
    puts_blank: bool = False
    reads_beginnings_otherwise: bool = False

    @abc.abstractmethod
    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Split texts into piece ids, without special tokens or truncation.

        Args:
            texts: string tensor (B,).

        Returns:
            int32 ragged tensor (B, None).
        """

    @abc.abstractmethod
    def tokenize_with_offsets(
        self, texts: tf.Tensor | Sequence[str]
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Split texts into piece ids and say where in the text each piece stands.

        Args:
            texts: strings (B,), UTF-8.

        Returns:
            `ids`, `starts` and `ends`, each an int32 ragged tensor (B, None), counted in
            characters (Unicode code points).
        """

    def tokenize_words(
        self, texts: tf.Tensor | Sequence[str]
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor, tf.Tensor]:
        """Split texts into piece ids and say of which words they are.

        Args:
            texts: strings (B,), UTF-8.

        Returns:
            `ids` and `starts` as of `tokenize_with_offsets`; `ends` of pieces, as there, but that
            pieces of blanks alone, which are of no word, end where the word before them does; and
            `begins`, bool (P,): whether each of the P pieces begins a word.
        """
        texts = tf.convert_to_tensor(texts, tf.string)
        ids, starts, ends = whole_offsets(self, texts)
        begins, word_ends = words_by_characters(texts, starts, ends)
        return ids, starts, ends.with_flat_values(word_ends), begins

    def written(self) -> list[str]:
        """How each piece of the vocabulary is written in a text.

        Returns:
            With `has_blanks` what it stands for, with a blank first where it begins a word; else
            the piece itself. A piece that is but part of a character is written by its bytes,
            `<0xE4>`.
        """
        return list(self.vocabulary.pieces)

    @abc.abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files as Hugging Face names them."""

    def __call__(
        self,
        texts: tf.Tensor | Sequence[str],
        text_pairs: tf.Tensor | Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        length: int | None = None,
    ) -> dict[str, tf.Tensor]:
        """Turn texts, or pairs of texts, into one padded batch.

        Args:
            texts: strings (B,).
            text_pairs: strings (B,) or None; the second text of each row.
            max_length: truncate rows to this many tokens; the tokenizer's own by default.
            length: pad every row to exactly this many tokens (and truncate to it);
                by default rows are padded to the longest of the batch.

        Returns:
            `token_ids`, `segment_ids` and `padding_mask`, each int32 (B, T).

        Raises:
            ConfigError: `max_length` or `length` is below 4, too short for a pair.
        """
        limit = self.max_length if max_length is None else max_length
        check_limit("max_length", limit)
        if length is not None:
            check_limit("length", length)
            limit = length
        ids, first_lengths = self.join(
            self.tokenize(tf.convert_to_tensor(texts, tf.string)),
            None
            if text_pairs is None
            else self.tokenize(tf.convert_to_tensor(text_pairs, tf.string)),
            max_length=limit,
        )
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        shape = [None, length]
        token_ids = ids.to_tensor(self.vocabulary.padding_id, shape=shape)
        positions = tf.range(tf.shape(token_ids)[1])[tf.newaxis]
        real = positions < lengths[:, tf.newaxis]
        second = real & (positions >= first_lengths[:, tf.newaxis])
        return {
            "token_ids": token_ids,
            "segment_ids": tf.cast(second, tf.int32),
            "padding_mask": tf.cast(real, tf.int32),
        }

    def join(
        self,
        first: tf.RaggedTensor,
        second: tf.RaggedTensor | None,
        *,
        max_length: int | tf.Tensor,
    ) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Truncate and add special tokens: [CLS] first [SEP], or [CLS] first [SEP] second [SEP].

        They are BERT's names; other tokenizers have others, and some end the first text of a pair
        with two of them.

        Of a pair the longer text is cut first, down to the length of the shorter, then both
        in turn (Hugging Face's `longest_first`). Only core TensorFlow operations are used:
        TensorFlow Text's trimmers are unknown to most TF Serving releases.

        Args:
            first: int32 (B, None) piece ids.
            second: int32 (B, None) piece ids, or None.
            max_length: tokens a row at most; or int32 (B,), a limit of each row's own, 4 or more.

        Returns:
            int32 ragged (B, None) rows, and int32 (B,): how many tokens of each row belong to
            the first segment; all, where the tokenizer knows but one.
        """
        if isinstance(max_length, tf.Tensor):
            max_length = tf.cast(max_length, first.row_splits.dtype)
        if second is None:
            # Slicing takes a fifth less time, and knows but one limit for all rows.
            one_limit = isinstance(max_length, int)
            first = (
                first[:, : max_length - 2]
                if one_limit
                else _keep(first, tf.minimum(first.row_lengths(), max_length - 2))
            )
        else:
            budget = max_length - 2 - self.ends_between
            first_length, second_length = first.row_lengths(), second.row_lengths()
            # The shorter text keeps up to half, the longer gets what is left; of two equal
            # texts the second counts as the longer, as in Hugging Face.
            shorter_kept = tf.minimum(tf.minimum(first_length, second_length), budget // 2)
            longer_kept = tf.minimum(tf.maximum(first_length, second_length), budget - shorter_kept)
            first_is_longer = first_length > second_length
            first = _keep(first, tf.where(first_is_longer, longer_kept, shorter_kept))
            second = _keep(second, tf.where(first_is_longer, shorter_kept, longer_kept))
        rows = tf.cast(first.nrows(), tf.int32)
        start = tf.fill([rows, 1], self.vocabulary.start_id)
        end = tf.fill([rows, 1], self.vocabulary.end_id)
        between = [end] * self.ends_between
        parts = [start, first, end] if second is None else [start, first, *between, second, end]
        ids = tf.concat(parts, axis=1)
        first_lengths = first.row_lengths() + 2 if self.has_segments else ids.row_lengths()
        return ids, tf.cast(first_lengths, tf.int32)


def check_limit(name: str, value: int) -> None:
    """Refuse a limit of tokens a row that leaves no room for a pair, or for anything real.

    Raises:
        ConfigError: it is out of range.
    """
    if not SHORTEST_LIMIT <= value <= 100_000:
        raise ConfigError(f"{name} must be in [{SHORTEST_LIMIT}, 100000]. Received: {value}.")


def _keep(rows: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """The first `lengths[i]` values of row i."""
    positions = tf.ragged.range(rows.row_lengths()).flat_values
    kept = positions < tf.repeat(lengths, rows.row_lengths())
    return tf.RaggedTensor.from_row_lengths(
        tf.boolean_mask(rows.flat_values, kept), lengths, validate=False
    )
