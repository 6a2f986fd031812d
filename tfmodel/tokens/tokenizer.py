"""WordPiece in the graph: the same code in training, in the SavedModel and in `predict`.

Two operations of TensorFlow Text do the work: one normalizes by our own table, one splits. Ids and
character offsets are those of Hugging Face's `tokenizers`; docs/tokens.md lists what differs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from tfmodel.config import ConfigError
from tfmodel.tokens.normalization import normalizer_model
from tfmodel.tokens.offsets import (
    LONGEST_WORD_CHARACTERS,
    Pieces,
    character_offsets,
    without_long_words,
)
from tfmodel.tokens.vocabulary import SPECIAL_PIECES, Vocabulary

TOKENIZER_CONFIG = "tokenizer_config.json"
VOCABULARY_FILE = "vocab.txt"

# BERT's limit is 100 characters a word, the operation's is in bytes: four for the longest.
_LONGEST_WORD_BYTES = 4 * LONGEST_WORD_CHARACTERS
SHORTEST_LIMIT = 4
# Names that transformers gives to this one way of splitting ("Fast" added or not).
_CLASSES = (
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "PreTrainedTokenizer",
    "TokenizersBackend",
)


class Tokenizer:
    """Strings in, BERT's token batches out, as TensorFlow graph operations.

    Args:
        vocabulary: the WordPiece vocabulary.
        lowercase: lower-case and strip accents first, as uncased BERTs do.
        max_length: tokens a row at most, special tokens included; in [4, 100000].

    Raises:
        ConfigError: `max_length` is out of range, or a piece is longer than 256 bytes.

    Example:
        >>> tokenizer = Tokenizer(Vocabulary.from_file("vocab.txt"), max_length=128)
        >>> tokenizer(["How far is the moon?"])["token_ids"].shape
        TensorShape([1, 8])
    """

    def __init__(self, vocabulary: Vocabulary, *, lowercase: bool = True, max_length: int = 512):
        _check_limit("max_length", max_length)
        self.vocabulary = vocabulary
        self.lowercase = lowercase
        self.max_length = max_length
        self._normalizer = tf_text.FastBertNormalizer(
            model_buffer=_constant(normalizer_model(lowercase=lowercase))
        )
        try:
            self._splitter = tf_text.FastWordpieceTokenizer(
                vocabulary.pieces,
                max_bytes_per_word=_LONGEST_WORD_BYTES,
                token_out_type=tf.int32,
                unknown_token=SPECIAL_PIECES["unknown"],
            )
        except RuntimeError as error:
            raise ConfigError(f"Expected a WordPiece vocabulary. Received: {error}") from None
        self._continues = tf.constant([piece.startswith("##") for piece in vocabulary.pieces])

    def normalize(self, texts: tf.Tensor) -> tf.Tensor:
        """Normalize as BERT's BasicTokenizer does before it splits.

        Args:
            texts: string tensor (B,).

        Returns:
            A string tensor (B,).
        """
        return self._normalizer.normalize(texts)

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Split texts into piece ids, without special tokens or truncation.

        Args:
            texts: string tensor (B,).

        Returns:
            int32 ragged tensor (B, None).
        """
        pieces = self._split(self.normalize(texts))
        return pieces.ragged(pieces.ids)

    def tokenize_with_offsets(
        self, texts: tf.Tensor | Sequence[str]
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Split texts into piece ids and say where in the text each piece stands.

        Args:
            texts: strings (B,), UTF-8.

        Returns:
            `ids`, `starts` and `ends`, each an int32 ragged tensor (B, None): piece j of text i is
            `texts[i][starts[i, j]:ends[i, j]]`, counted in characters (Unicode code points).

        Example:
            >>> ids, starts, ends = tokenizer.tokenize_with_offsets(["Zoë"])
            >>> starts.to_list(), ends.to_list()
            ([[0]], [[3]])
        """
        texts = tf.convert_to_tensor(texts, tf.string)
        normalized, sources = self._normalizer.normalize_with_offsets(texts)
        pieces = self._split(normalized)
        starts, ends = character_offsets(pieces, texts, sources)
        return pieces.ragged(pieces.ids), pieces.ragged(starts), pieces.ragged(ends)

    def _split(self, normalized: tf.Tensor) -> Pieces:
        ids, starts, ends = self._splitter.tokenize_with_offsets(normalized)
        pieces = Pieces(ids.flat_values, starts.flat_values, ends.flat_values, ids.row_splits)
        return without_long_words(
            pieces,
            normalized,
            continues=self._continues,
            unknown_id=self.vocabulary.unknown_id,
        )

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
        _check_limit("max_length", limit)
        if length is not None:
            _check_limit("length", length)
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

        Of a pair the longer text is cut first, down to the length of the shorter, then both
        in turn (Hugging Face's `longest_first`). Only core TensorFlow operations are used:
        TensorFlow Text's trimmers are unknown to most TF Serving releases.

        Args:
            first: int32 (B, None) piece ids.
            second: int32 (B, None) piece ids, or None.
            max_length: tokens a row at most; or int32 (B,), a limit of each row's own, 4 or more.

        Returns:
            int32 ragged (B, None) rows, and int32 (B,): how many tokens of each row belong to
            the first segment.
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
            budget = max_length - 3
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
        first_lengths = tf.cast(first.row_lengths(), tf.int32) + 2
        parts = [start, first, end] if second is None else [start, first, end, second, end]
        return tf.concat(parts, axis=1), first_lengths

    @classmethod
    def from_folder(cls, folder: str | Path, *, max_length: int | None = None) -> Tokenizer:
        """Read a model folder's `vocab.txt` (or `tokenizer.json`) and `tokenizer_config.json`.

        Args:
            folder: a Hugging Face model folder.
            max_length: tokens a row at most; by default what the folder says, else 512.

        Raises:
            ConfigError: no vocabulary, not a WordPiece one, or text is split in another way
                than BERT's.
        """
        folder = Path(folder)
        settings = _read_json(folder / TOKENIZER_CONFIG)
        fast = _read_json(folder / "tokenizer.json")
        normalizer = fast.get("normalizer") or {}
        if (folder / VOCABULARY_FILE).exists() or not fast:
            vocabulary = Vocabulary.from_file(folder / VOCABULARY_FILE)
        else:
            vocabulary = _vocabulary_of(fast, name=str(folder / "tokenizer.json"))
        lowercase = settings.get("do_lower_case")
        if lowercase is None:
            lowercase = normalizer.get("lowercase", True)
        _check_splitting(folder, settings, normalizer, lowercase=bool(lowercase))
        stated = settings.get("model_max_length")
        if max_length is None:
            # Hugging Face writes 1e30 where nothing is known.
            max_length = int(stated) if isinstance(stated, int) and stated <= 100_000 else 512
        return cls(vocabulary, lowercase=bool(lowercase), max_length=max_length)

    def save(self, folder: str | Path) -> None:
        """Write `vocab.txt` and `tokenizer_config.json` as Hugging Face names them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.vocabulary.save(folder / VOCABULARY_FILE)
        settings = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.lowercase,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
            "model_max_length": self.max_length,
            "pad_token": SPECIAL_PIECES["padding"],
            "unk_token": SPECIAL_PIECES["unknown"],
            "cls_token": SPECIAL_PIECES["start"],
            "sep_token": SPECIAL_PIECES["end"],
            "mask_token": SPECIAL_PIECES["mask"],
        }
        (folder / TOKENIZER_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def _constant(model: bytes) -> tf.Tensor:
    return tf.constant(np.frombuffer(model, np.uint8))


def _check_limit(name: str, value: int) -> None:
    if not SHORTEST_LIMIT <= value <= 100_000:
        raise ConfigError(f"{name} must be in [{SHORTEST_LIMIT}, 100000]. Received: {value}.")


def _check_splitting(folder: Path, settings: dict, normalizer: dict, *, lowercase: bool) -> None:
    """Refuse what this tokenizer would silently do in another way."""
    kind = settings.get("tokenizer_class")
    if kind is not None and kind.removesuffix("Fast") not in _CLASSES:
        raise ConfigError(
            f"{folder / TOKENIZER_CONFIG}: expected BERT's WordPiece tokenizer. "
            f"Received: tokenizer_class {kind}."
        )
    accents = settings.get("strip_accents", normalizer.get("strip_accents"))
    chinese = settings.get("tokenize_chinese_chars", normalizer.get("handle_chinese_chars", True))
    if accents not in (None, lowercase) or not chinese:
        raise ConfigError(
            f"{folder}: expected accents stripped where text is lower-cased, and only there, and "
            f"Chinese characters split. Received: lower-casing {lowercase}, strip_accents "
            f"{accents}, tokenize_chinese_chars {chinese}."
        )


def _keep(rows: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """The first `lengths[i]` values of row i."""
    positions = tf.ragged.range(rows.row_lengths()).flat_values
    kept = positions < tf.repeat(lengths, rows.row_lengths())
    return tf.RaggedTensor.from_row_lengths(
        tf.boolean_mask(rows.flat_values, kept), lengths, validate=False
    )


def _read_json(path: Path) -> dict:
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: expected JSON. Received: {error}.") from None


def _vocabulary_of(fast: dict, *, name: str) -> Vocabulary:
    model = fast.get("model") or {}
    if model.get("type") != "WordPiece" or not isinstance(model.get("vocab"), dict):
        raise ConfigError(
            f"{name}: expected a WordPiece tokenizer (BERT's). "
            f"Received: {model.get('type') or 'no model type'}."
        )
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    if [model["vocab"][piece] for piece in pieces] != list(range(len(pieces))):
        raise ConfigError(f"{name}: expected ids 0 to {len(pieces) - 1}, each once.")
    return Vocabulary(pieces, name=name)
