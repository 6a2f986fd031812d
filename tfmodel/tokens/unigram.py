"""SentencePiece's unigrams in the graph, as XLM-RoBERTa and ALBERT read texts: Hugging Face's ids.

A text is normalized step by step, cut to words at white space, and each word is written with the
likeliest pieces, all by core TensorFlow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfmodel.tokens.byte_pair_files import mask_token
from tfmodel.tokens.character_kinds import SPACE, kinds_of
from tfmodel.tokens.row_tokenizer import RowTokenizer, check_limit
from tfmodel.tokens.text_steps import BLANK, Characters, same_as_before
from tfmodel.tokens.unigram_files import SPECIAL_NAMES, Splitting, normalizer_steps, read_values
from tfmodel.tokens.unigram_pieces import UnigramPieces
from tfmodel.tokens.vocabulary import Vocabulary

FAST_FILE = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"

_MARK = ord("▁")


class UnigramTokenizer(RowTokenizer):
    """Strings in, token batches of XLM-RoBERTa or ALBERT out, as TensorFlow graph operations.

    Args:
        vocabulary: pieces, in which `▁` stands for the blank before a word, and the special ones.
        scores: the logarithm of how likely each piece is.
        splitting: what is done to a text before, and how a pair is joined.
        max_length: tokens a row at most, special tokens included; in [4, 100000].

    Raises:
        ConfigError: `max_length` is out of range.

    Source: Kudo 2018; `Precompiled`, `Metaspace` and `Unigram` of Hugging Face's tokenizers.
    Deviation: special pieces in a text are text.

    Example:
        >>> tokenizer = load_tokenizer("xlm-roberta-base/")
        >>> tokenizer(["How far is the moon?"])["token_ids"].shape
        TensorShape([1, 8])
    """

    kind = "unigram"
    has_blanks = True

    def __init__(
        self,
        vocabulary: Vocabulary,
        scores: list[float],
        splitting: Splitting,
        *,
        max_length: int = 512,
    ):
        check_limit("max_length", max_length)
        self.vocabulary = vocabulary
        self.scores = list(scores)
        self.splitting = splitting
        self.max_length = max_length
        self.lowercase = splitting.lowercase
        self.ends_between = splitting.ends_between
        self.has_segments = splitting.has_segments
        self._steps = normalizer_steps(splitting.normalizers)
        self._pieces = UnigramPieces(
            vocabulary.pieces,
            scores,
            unknown_id=vocabulary.unknown_id,
            unused=[vocabulary.ids[each] for each in splitting.never_text],
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
        ids, _, _, splits = self._split(texts)
        return tf.RaggedTensor.from_row_splits(ids, splits, validate=False)

    def tokenize_with_offsets(
        self, texts: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Split texts into piece ids and say where in the text each piece stands.

        Args:
            texts: strings (B,), UTF-8.

        Returns:
            `ids`, `starts` and `ends`, each an int32 ragged tensor (B, None), counted in
            characters. A blank before a word is not the word's, though its piece begins with it;
            characters that are written as one are one.
        """
        *parts, splits = self._split(tf.convert_to_tensor(texts, tf.string))
        return tuple(
            tf.RaggedTensor.from_row_splits(each, splits, validate=False) for each in parts
        )

    @property
    def puts_blank(self) -> bool:
        """Whether a text is read as if a blank stood before it."""
        return self.splitting.prepend != "never"

    @property
    def reads_beginnings_otherwise(self) -> bool:
        """Whether that is so of the beginning of a whole text alone."""
        return self.splitting.prepend == "first"

    def written(self) -> list[str]:
        """How each piece is written in a text, as `RowTokenizer.written` says."""
        never = {*self.splitting.never_text}
        return [
            piece if piece in never else piece.replace("▁", " ") for piece in self.vocabulary.pieces
        ]

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` as Hugging Face does."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        special = self.vocabulary.special
        settings = {
            "tokenizer_class": self.splitting.class_name,
            "model_max_length": self.max_length,
            **{f"{name}_token": special[role] for role, name in SPECIAL_NAMES.items()},
            "mask_token": mask_token(special["mask"]),
            "bos_token": special["start"],
            "eos_token": special["end"],
            **self.splitting.settings(),
        }
        for name, values in (
            (FAST_FILE, self.splitting.fast_values(self.vocabulary, self.scores)),
            (TOKENIZER_CONFIG, settings),
        ):
            text = json.dumps(values, indent=2, ensure_ascii=False)
            (folder / name).write_text(text + "\n", "utf-8")

    @classmethod
    def from_values(
        cls, fast: Mapping[str, Any], settings: Mapping[str, Any], *, name: str, max_length: int
    ) -> UnigramTokenizer:
        """Make the tokenizer of a model folder.

        Args:
            fast: what stands in `tokenizer.json`, or `read_model` gives.
            settings: what stands in `tokenizer_config.json`.
            name: what messages call the file.
            max_length: tokens a row at most.

        Raises:
            ConfigError: texts are split in another way, or a value is of another kind.
        """
        vocabulary, scores, splitting = read_values(fast, settings, name=name)
        return cls(vocabulary, scores, splitting, max_length=max_length)

    def _split_all(self, texts: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Ids, starts and ends of pieces, int32 (P,) each, and row splits, int64 (B + 1,)."""
        given = Characters.of(texts)
        for step in self._steps:
            given = step(given)
        given, begins = self._words(given)
        cut = self._pieces.write(given.codes, begins)
        starts = tf.gather(given.starts, cut.starts)
        ends = tf.gather(given.ends, cut.ends - 1)
        counts = tf.math.bincount(
            tf.cast(tf.gather(given.rows, cut.starts), tf.int32),
            minlength=tf.size(texts),
            maxlength=tf.size(texts),
            dtype=tf.int64,
        )
        return cut.ids, starts, tf.maximum(ends, starts), tf.pad(tf.cumsum(counts), [[1, 0]])

    def _words(self, given: Characters) -> tuple[Characters, tf.Tensor]:
        """Normalized texts, blanks written as marks, and whether a word begins: bool (n,)."""
        splitting = self.splitting
        begins = given.begins_row()
        if splitting.at_white_space:
            is_space = kinds_of(given.codes) == SPACE
            # A word begins behind white space too.
            begins |= tf.concat([[False], is_space[:-1]], axis=0)[: tf.size(is_space)]
            begins = tf.boolean_mask(begins, ~is_space)
            given = given.keep(~is_space)
        else:
            is_blank = given.codes == BLANK
            # The mark of a blank takes no place of its own.
            given = given._replace(
                codes=tf.where(is_blank, _MARK, given.codes),
                starts=tf.where(is_blank, given.ends, given.starts),
            )
        if splitting.prepend != "never":
            lacks = begins & (given.codes != _MARK)
            if splitting.prepend == "first":
                lacks &= given.starts == 0
            given, begins = _with_marks(given, begins, lacks)
        if splitting.at_marks:
            begins |= given.codes == _MARK
        return given, begins


def _with_marks(
    given: Characters, begins: tf.Tensor, lacks: tf.Tensor
) -> tuple[Characters, tf.Tensor]:
    """Put a mark, which takes no place of its own, before each of the characters that lack one."""
    counts = 1 + tf.cast(lacks, tf.int32)
    of = tf.repeat(tf.range(tf.size(counts)), counts)
    is_again = same_as_before(of)
    is_mark = tf.gather(lacks, of) & ~is_again
    moved = Characters(*(tf.gather(each, of) for each in given))
    moved = moved._replace(
        codes=tf.where(is_mark, _MARK, moved.codes),
        ends=tf.where(is_mark, moved.starts, moved.ends),
    )
    return moved, tf.gather(begins, of) & ~is_again
