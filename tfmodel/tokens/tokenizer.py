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
from tfmodel.tokens.combining_marks import whole_offsets
from tfmodel.tokens.normalization import normalizer_model
from tfmodel.tokens.offsets import (
    LONGEST_WORD_CHARACTERS,
    Pieces,
    character_offsets,
    without_long_words,
)
from tfmodel.tokens.row_tokenizer import RowTokenizer, check_limit
from tfmodel.tokens.vocabulary import SPECIAL_PIECES, Vocabulary

TOKENIZER_CONFIG = "tokenizer_config.json"
FAST_FILE = "tokenizer.json"
VOCABULARY_FILE = "vocab.txt"

# BERT's limit is 100 characters a word, the operation's is in bytes: four for the longest.
_LONGEST_WORD_BYTES = 4 * LONGEST_WORD_CHARACTERS
# Names that transformers gives to this one way of splitting ("Fast" added or not).
_CLASSES = (
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "PreTrainedTokenizer",
    "TokenizersBackend",
)


class Tokenizer(RowTokenizer):
    """Strings in, BERT's token batches out, as TensorFlow graph operations.

    Args:
        vocabulary: the WordPiece vocabulary.
        lowercase: lower-case and strip accents first, as uncased BERTs do.
        max_length: tokens a row at most, special tokens included; in [4, 100000].
        class_name: what transformers is told to load it as; `DistilBertTokenizer` splits alike and
            gives its model no segments.

    Raises:
        ConfigError: `max_length` is out of range, or a piece is longer than 256 bytes.

    Example:
        >>> tokenizer = Tokenizer(Vocabulary.from_file("vocab.txt"), max_length=128)
        >>> tokenizer(["How far is the moon?"])["token_ids"].shape
        TensorShape([1, 8])
    """

    kind = "wordpiece"

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        lowercase: bool = True,
        max_length: int = 512,
        class_name: str = "BertTokenizer",
    ):
        check_limit("max_length", max_length)
        self.vocabulary = vocabulary
        self.lowercase = lowercase
        self.max_length = max_length
        self.class_name = class_name
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

    def tokenize_words(
        self, texts: tf.Tensor | Sequence[str]
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor, tf.Tensor]:
        """Split texts into piece ids and say of which words they are.

        Args:
            texts: strings (B,), UTF-8.

        Returns:
            `ids`, `starts` and `ends` as of `tokenize_with_offsets`, and bool (P,): whether each
            of the P pieces begins a word.
        """
        ids, starts, ends = whole_offsets(self, texts)
        return ids, starts, ends, self.begins_word(ids.flat_values)

    def begins_word(self, ids: tf.Tensor) -> tf.Tensor:
        """Whether pieces begin a word: those that are written without `##`.

        Args:
            ids: int32, of any shape.

        Returns:
            bool, of the same shape.
        """
        return tf.logical_not(tf.gather(self._continues, ids))

    def _split(self, normalized: tf.Tensor) -> Pieces:
        ids, starts, ends = self._splitter.tokenize_with_offsets(normalized)
        pieces = Pieces(ids.flat_values, starts.flat_values, ends.flat_values, ids.row_splits)
        return without_long_words(
            pieces,
            normalized,
            continues=self._continues,
            unknown_id=self.vocabulary.unknown_id,
        )

    @classmethod
    def from_folder(cls, folder: str | Path, *, max_length: int | None = None) -> Tokenizer:
        """Read a model folder's `vocab.txt` (or `tokenizer.json`) and `tokenizer_config.json`.

        Args:
            folder: a Hugging Face model folder, or one of Google's, whose vocabulary alone says
                whether texts are lower-cased.
            max_length: tokens a row at most; by default what the folder says, else 512.

        Raises:
            ConfigError: no vocabulary, not a WordPiece one, or text is split in another way
                than BERT's. `load_tokenizer` reads other kinds.
        """
        folder = Path(folder)
        settings = read_json(folder / TOKENIZER_CONFIG)
        fast = read_json(folder / FAST_FILE)
        normalizer = fast.get("normalizer") or {}
        if (folder / VOCABULARY_FILE).exists() or not fast:
            vocabulary = Vocabulary.from_file(folder / VOCABULARY_FILE)
        else:
            vocabulary = _vocabulary_of(fast, name=str(folder / FAST_FILE))
        lowercase = settings.get("do_lower_case")
        if lowercase is None:
            # Google's folders have no settings.
            is_google = (folder / "bert_config.json").exists() and not settings
            lowercase = normalizer.get("lowercase", not (is_google and vocabulary.is_cased))
        _check_splitting(folder, settings, normalizer, lowercase=bool(lowercase))
        if max_length is None:
            max_length = stated_length(settings)
        named = settings.get("tokenizer_class")
        if named is None:  # as in the first folders of DistilBERT
            is_distilbert = read_json(folder / "config.json").get("model_type") == "distilbert"
            named = "DistilBertTokenizer" if is_distilbert else ""
        return cls(
            vocabulary,
            lowercase=bool(lowercase),
            max_length=max_length,
            class_name="DistilBertTokenizer" if named.startswith("Distil") else "BertTokenizer",
        )

    def save(self, folder: str | Path) -> None:
        """Write `vocab.txt` and `tokenizer_config.json` as Hugging Face names them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.vocabulary.save(folder / VOCABULARY_FILE)
        settings = {
            "tokenizer_class": self.class_name,
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


def read_json(path: Path) -> dict:
    """Read a JSON file; empty where there is none.

    Raises:
        ConfigError: it is no JSON.
    """
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: expected JSON. Received: {error}.") from None


def stated_length(settings: dict) -> int:
    """Tokens a row at most, as `tokenizer_config.json` says; 512 where it does not."""
    stated = settings.get("model_max_length")
    # Hugging Face writes 1e30 where nothing is known.
    return int(stated) if isinstance(stated, int) and stated <= 100_000 else 512


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
