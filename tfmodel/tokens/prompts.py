"""Texts in a sentence with a gap, which a masked language model is asked to fill."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.tokens.gaps import GAP
from tfmodel.tokens.row_tokenizer import RowTokenizer

TEXT, TEXT_PAIR = "{text}", "{text_pair}"
_SHORTEST_TEXT = 4
"""Tokens of a text that must have room beside the template."""


def check_template(template: str, *, has_pairs: bool | None = None) -> None:
    """Refuse a template that does not say where the text and the gap are.

    Args:
        template: such as `{text} It was [MASK].`
        has_pairs: whether rows are two texts; None: not known yet.

    Raises:
        ConfigError: something is missing, or there more than once.
    """
    counts = {part: template.count(part) for part in (TEXT, GAP, TEXT_PAIR)}
    pairs = counts[TEXT_PAIR] if has_pairs is None else int(has_pairs)
    if list(counts.values()) != [1, 1, pairs] or pairs > 1:
        wanted = f"{TEXT} and {GAP} once each" + (f", {TEXT_PAIR} once too" if has_pairs else "")
        wanted += f" and no {TEXT_PAIR}, for rows are one text" if has_pairs is False else ""
        raise ConfigError(
            f"few_labels.template: expected {wanted}. Received: {template!r}. Write for example "
            f"'{TEXT} It was {GAP}.'"
        )


class PromptTokenizer(RowTokenizer):
    """Puts texts into a template; what is cut off where a row is too long is text, no template.

    Template and texts are cut into pieces each by itself. Where blanks are of pieces, those before
    the gap are of what fills it, and texts are read with a blank before them where the template has
    one before a text.

    Args:
        tokenizer: splits text and template, with a mask in its vocabulary.
        template: with `{text}`, `{text_pair}` for pairs, and `[MASK]`, whatever the vocabulary
            calls its mask.

    Raises:
        ConfigError: the template is as `check_template` refuses it, or leaves no room for a text in
            the tokenizer's `max_length`, or the vocabulary has no mask.

    Source: Schick and Schütze 2021, section 3 (PET); Gao et al. 2021 (LM-BFF).

    Example:
        >>> prompts = PromptTokenizer(tokenizer, "{text} It was [MASK].")
    """

    has_segments = False

    def __init__(self, tokenizer: RowTokenizer, template: str):
        check_template(template)
        self.template = template
        self.kind = tokenizer.kind
        self.vocabulary = tokenizer.vocabulary
        self.max_length = tokenizer.max_length
        self.lowercase = tokenizer.lowercase
        self.has_blanks = tokenizer.has_blanks
        self._tokenizer = tokenizer
        if self.vocabulary.mask_id is None:
            raise ConfigError(
                "few_labels: expected an encoder whose vocabulary has "
                f"{self.vocabulary.special['mask']}. Received: one without. Choose one that was "
                "pretrained to fill gaps."
            )
        parts = re.split(r"(\{text\}|\{text_pair\}|\[MASK\])", template)
        lacks_blank = tokenizer.has_blanks and not tokenizer.puts_blank
        self.text_prefix = " " if lacks_blank and re.search(r"\s\{text", template) else ""
        with tf.init_scope():
            self._parts: list[str | list[int]] = [
                part if part in (TEXT, TEXT_PAIR) else self._ids(part) for part in parts if part
            ]
        own = sum(len(part) for part in self._parts if isinstance(part, list))
        self._own_tokens = own + 2
        if self.max_length < self._own_tokens + _SHORTEST_TEXT:
            raise ConfigError(
                f"train.max_length must be at least {self._own_tokens + _SHORTEST_TEXT}, for the "
                f"template takes {own} tokens. Received: {self.max_length}."
            )

    @property
    def parts(self) -> list[str | list[int]]:
        """What a row is made of between its first and its last piece, in order.

        `{text}` and `{text_pair}` by these names; what the template says as ids.
        """
        return list(self._parts)

    @property
    def splitter(self) -> RowTokenizer:
        """The tokenizer without the template."""
        return self._tokenizer

    def _ids(self, part: str) -> list[int]:
        if part == GAP:
            return [self.vocabulary.mask_id]
        # What stands behind it, a gap or a text, has the blank.
        part = part.rstrip() if self.has_blanks else part
        return self._tokenizer.tokenize(tf.constant([part])).to_list()[0]

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Split texts, without the template, which `join` adds."""
        return self._tokenizer.tokenize(self._prefixed(texts))

    def tokenize_with_offsets(
        self, texts: tf.Tensor | Sequence[str]
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Split texts, without the template, and say where in the text each piece stands."""
        texts = tf.convert_to_tensor(texts, tf.string)
        ids, *places = self._tokenizer.tokenize_with_offsets(self._prefixed(texts))
        starts, ends = (
            each.with_flat_values(tf.maximum(each.flat_values - len(self.text_prefix), 0))
            for each in places
        )
        return ids, starts, ends

    def written(self) -> list[str]:
        """As the tokenizer without the template."""
        return self._tokenizer.written()

    def _prefixed(self, texts: tf.Tensor) -> tf.Tensor:
        if not self.text_prefix:
            return texts
        is_empty = tf.equal(tf.strings.length(texts), 0)
        return tf.where(is_empty, texts, tf.strings.join([self.text_prefix, texts]))

    def save(self, folder: str | Path) -> None:
        """Write the files of the tokenizer without the template."""
        plain = copy.copy(self._tokenizer)
        plain.max_length = self.max_length
        plain.save(folder)

    def join(
        self,
        first: tf.RaggedTensor,
        second: tf.RaggedTensor | None,
        *,
        max_length: int | tf.Tensor,
    ) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """As `RowTokenizer.join`, around the template; all of it is one segment.

        A row is never shorter than the template: a limit below that leaves no text.
        """
        budget = tf.maximum(tf.cast(max_length, first.row_splits.dtype) - self._own_tokens, 0)
        lengths = first.row_lengths()
        if second is None:
            texts = {TEXT: _keep(first, tf.minimum(lengths, budget))}
        else:
            # As for pairs without a template: the longer text is cut first.
            others = second.row_lengths()
            shorter = tf.minimum(tf.minimum(lengths, others), budget // 2)
            longer = tf.minimum(tf.maximum(lengths, others), budget - shorter)
            is_longer = lengths > others
            texts = {
                TEXT: _keep(first, tf.where(is_longer, longer, shorter)),
                TEXT_PAIR: _keep(second, tf.where(is_longer, shorter, longer)),
            }
        rows = tf.cast(first.nrows(), tf.int32)
        ids = tf.concat(
            [
                tf.fill([rows, 1], self.vocabulary.start_id),
                *(
                    texts[part]
                    if isinstance(part, str)
                    else tf.tile(tf.constant([part], tf.int32), [rows, 1])
                    for part in self._parts
                ),
                tf.fill([rows, 1], self.vocabulary.end_id),
            ],
            axis=1,
        )
        return ids, tf.cast(ids.row_lengths(), tf.int32)


def _keep(rows: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """The first `lengths[i]` values of row i."""
    places = tf.ragged.range(rows.row_lengths()).flat_values
    kept = places < tf.repeat(lengths, rows.row_lengths())
    return tf.RaggedTensor.from_row_lengths(
        tf.boolean_mask(rows.flat_values, kept), lengths, validate=False
    )
