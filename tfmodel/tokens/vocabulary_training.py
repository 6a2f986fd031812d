"""A WordPiece vocabulary from texts: equal texts and settings give equal pieces, in equal order.

The pieces are chosen by Hugging Face's `tokenizers` (extra `vocabulary`). Its trainer numbers the
continuations (`##e`) as a hash table happens to hold them, and breaks ties by those numbers, so two
runs of it differ in order, and where pairs are equally common in pieces; here the continuations are
numbered beforehand.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from tfmodel.config import ConfigError, Settings
from tfmodel.data.privacy.findings import PLACEHOLDERS
from tfmodel.tokens.vocabulary import SPECIAL_PIECES, Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

_log = logging.getLogger(__name__)

# The trainer takes words, not counts: beyond so many, all counts are made smaller alike.
_MOST_WORDS_GIVEN = 50_000_000
_CHARACTERS_AT_ONCE = 65_536
_LONGEST_WORD_BYTES = 254  # with ## before it, all that the operation that splits takes


class VocabularySettings(Settings):
    """How a vocabulary is trained from a corpus."""

    size: int = Field(
        16_000, ge=100, le=1_000_000, description="Pieces in all, the special and reserved too."
    )
    lowercase: bool = Field(True, description="Lower-case and strip accents, as uncased BERTs do.")
    min_count: int = Field(
        2, ge=1, description="How often a character, and a piece that is made, occurs at least."
    )
    coverage: float = Field(
        0.9999,
        gt=0,
        le=1,
        description="Share of the corpus's characters that get a piece, the commonest first; words "
        "with another become [UNK].",
    )
    unused: int = Field(
        100,
        ge=0,
        le=10_000,
        description="Places [unused0], [unused1] ... that a later user may give to own words.",
    )
    reserved: list[str] = Field(
        [],
        description="Words that are one piece whatever the corpus holds: letters and digits.",
        json_schema_extra={"uniqueItems": True},
    )
    placeholders: bool = Field(
        True, description="Whether the words that replace private data are one piece each."
    )
    max_words: int = Field(
        3_000_000,
        ge=1_000,
        description="Distinct words counted at once; beyond, those seen least are forgotten.",
    )

    @field_validator("reserved")
    @classmethod
    def _none_twice(cls, words: list[str]) -> list[str]:
        if len({*words}) < len(words):
            raise ValueError("expected every word once")
        return words


def train_vocabulary(
    texts: Iterable[str],
    *,
    size: int,
    lowercase: bool = True,
    min_count: int = 2,
    coverage: float = 0.9999,
    unused: int = 100,
    reserved: Sequence[str] = (),
    placeholders: bool = True,
    max_words: int = 3_000_000,
) -> Vocabulary:
    """Train a WordPiece vocabulary for `Tokenizer(vocabulary, lowercase=lowercase)`.

    Args:
        texts: read once, in a stream; memory is that of the words' table.
        size: pieces in all.
        lowercase: lower-case and strip accents, as the tokenizer will.
        min_count: how often a character, or a pair of pieces that becomes one, occurs at least.
        coverage: share of the characters that get a piece, in (0, 1].
        unused: how many pieces `[unusedN]`.
        reserved: words that are one piece each.
        placeholders: reserve the words that replace private data too.
        max_words: distinct words counted at once.

    Returns:
        [PAD] [UNK] [CLS] [SEP] [MASK], [unusedN], the reserved words, characters, continuations
        (`##e`), and then longer pieces, the commonest first.

    Raises:
        ConfigError: the corpus is empty or supports no vocabulary of this size (the message says
            how many pieces it supports), a reserved word is cut by the tokenizer, or the extra
            `vocabulary` is not installed.

    Source: the trainer of Hugging Face's tokenizers, which joins the commonest pair of pieces as
    byte-pair encoding does (Sennrich et al. 2016), not the likeliest (Schuster and Nakajima 2012).
    """
    from tfmodel.tokens.words import count_words

    require_trainer()
    special = [*SPECIAL_PIECES.values(), *(f"[unused{number}]" for number in range(unused))]
    words = [*reserved, *(PLACEHOLDERS.values() if placeholders else ())]
    special += _reserved(words, lowercase=lowercase)
    counts = count_words(texts, lowercase=lowercase, most=max_words)
    if not counts:
        raise ConfigError(
            "vocabulary: expected a corpus with words. Received: none. Check corpus.train."
        )
    characters = _characters(counts, min_count=min_count, coverage=coverage)
    kept = {word: count for word, count in counts.items() if characters.issuperset(word)}
    starts = sorted(characters)
    continuations = sorted({f"##{letter}" for word in kept for letter in word[1:]})
    whole = {*special}
    for word in [w for w in kept if w in whole or len(w.encode("utf-8")) > _LONGEST_WORD_BYTES]:
        del kept[word]
    alphabet = [*starts, *continuations]
    least = len(special) + len(alphabet)
    if size < least:
        raise ConfigError(
            f"vocabulary.size: expected {least} or more: {len(special)} special and reserved "
            f"pieces, {len(alphabet)} of single characters. Received: {size}. Make it larger, or "
            f"vocabulary.coverage (here {coverage}) smaller."
        )
    longer = _longer_pieces(
        kept, starts, continuations, count=size - len(special) + len(words), min_count=min_count
    )
    taken = {*special, *alphabet}
    pieces = [*special, *alphabet, *(piece for piece in longer if piece not in taken)]
    if len(pieces) < size:
        raise ConfigError(
            f"vocabulary.size: expected {len(pieces)} or less, which is what the corpus supports: "
            f"{sum(counts.values()):,} words, {len(counts):,} of them distinct, with "
            f"vocabulary.min_count={min_count}. Received: {size}. Set vocabulary.size="
            f"{len(pieces)}, or bring more text."
        )
    return Vocabulary(pieces[:size], name="trained vocabulary")


def _reserved(words: Sequence[str], *, lowercase: bool) -> list[str]:
    """The words as the tokenizer will see them; refuse those that it cuts."""
    from tfmodel.tokens.words import count_words, split_words

    found = []
    for word in words:
        seen = [*count_words([word], lowercase=lowercase, most=1_000)]
        whole = len(seen) == 1 and len(split_words(word)) == 1
        if not whole or len(seen[0].encode("utf-8")) > _LONGEST_WORD_BYTES:
            raise ConfigError(
                f"vocabulary.reserved: expected words that stay whole: letters and digits alone. "
                f"Received: {word!r}, which the tokenizer cuts. Write it without signs and spaces."
            )
        found.append(seen[0])
    return list(dict.fromkeys(found))


def _characters(counts: Counter[str], *, min_count: int, coverage: float) -> set[str]:
    """The commonest characters that together are `coverage` of the text."""
    letters: Counter[str] = Counter()
    for word, count in counts.items():
        for letter in word:
            letters[letter] += count
    wanted = coverage * letters.total()
    kept: set[str] = set()
    covered = 0
    for letter, count in sorted(letters.items(), key=lambda item: (-item[1], item[0])):
        if count < min_count or covered >= wanted:
            break
        kept.add(letter)
        covered += count
    return kept


def _longer_pieces(
    counts: dict[str, int],
    starts: Sequence[str],
    continuations: Sequence[str],
    *,
    count: int,
    min_count: int,
) -> list[str]:
    """What the trainer joins, in its order."""
    import tokenizers

    total = sum(counts.values())
    share = min(1.0, _MOST_WORDS_GIVEN / total)
    if share < 1:
        _log.info("vocabulary: %s words, their counts scaled by %.3g", f"{total:,}", share)
    trainer = tokenizers.trainers.WordPieceTrainer(
        # The first so many of its pieces; the alphabet is given, so none is added or left out.
        vocab_size=count,
        min_frequency=max(1, round(min_count * share)),
        special_tokens=[*starts, *continuations],
        continuing_subword_prefix="##",
        show_progress=False,
    )
    model: FastTokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    model.train_from_iterator(_repeated(counts, share), trainer)
    ids = model.get_vocab()
    return sorted(ids, key=ids.get)


def _repeated(counts: dict[str, int], share: float) -> Iterator[str]:
    """Every word as often as it occurs, or a share of that, in the order of the words."""
    for word in sorted(counts):
        left = round(counts[word] * share)
        while left > 0:
            now = min(left, _CHARACTERS_AT_ONCE // (len(word) + 1) + 1)
            yield f"{word} " * now
            left -= now


def require_trainer() -> None:
    """Refuse an installation without the trainer.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        import tokenizers  # noqa: F401
    except ImportError:
        raise ConfigError(
            "vocabulary: expected the package tokenizers. Received: none installed. "
            "Run: pip install 'tfmodel[vocabulary]'"
        ) from None
