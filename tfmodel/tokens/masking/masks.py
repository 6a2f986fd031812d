"""Hide tokens of a batch for a masked language model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.tokens.masking.choosing import choose_tokens, choose_words, span_groups
from tfmodel.tokens.objectives import masked_places
from tfmodel.tokens.vocabulary import SPECIAL_PIECES, Vocabulary


class Masked(NamedTuple):
    """A batch with hidden tokens.

    Attributes:
        token_ids: int32 (B, T), hidden tokens replaced.
        positions: int32 (B, P), where they are; 0 in a place that is not used.
        ids: int32 (B, P), what they were; 0 in a place that is not used.
        weights: float32 (B, P), 1 in a used place and 0 in another.
    """

    token_ids: np.ndarray
    positions: np.ndarray
    ids: np.ndarray
    weights: np.ndarray


class Masking:
    """How tokens are hidden: a pure function of a batch and of random numbers.

    Of each row's tokens `rate` are chosen, to the token; what is less than one is left to chance,
    so that the mean is exact. Never chosen: [CLS], [SEP], [PAD], [MASK] and [UNK], which cannot
    be learned from. A random piece is none of those, no [unused0] and no other in brackets.

    Args:
        vocabulary: the pieces.
        rate: share of the tokens that is chosen, in (0, 1).
        mask_share: of those, the share that becomes [MASK].
        random_share: of those, the share that becomes a random piece; the rest stays.
        whole_words: choose words, not tokens.
        spans: choose runs of words; each run has one fate: all [MASK], all random or all kept.
        span_stop: chance that a span ends after each word.
        longest_span: words of a span at most.

    Raises:
        ConfigError: the vocabulary has no [MASK].

    Source: Devlin et al. 2018, section 3.1; words: BERT's repository, 2019, and Cui et al. 2019;
    spans: Joshi et al. 2020, section 3.1. Deviation: [UNK] is spared; the last span of a row is
    cut to the tokens that are left.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        rate: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        whole_words: bool = False,
        spans: bool = False,
        span_stop: float = 0.2,
        longest_span: int = 10,
    ):
        if vocabulary.mask_id is None:
            raise ConfigError(
                f"Expected a vocabulary with {SPECIAL_PIECES['mask']}, to hide tokens behind. "
                f"Received: {len(vocabulary)} pieces without it. Take another vocabulary, or train "
                "one."
            )
        self.vocabulary = vocabulary
        self.rate = rate
        self.mask_share = mask_share
        self.random_share = random_share
        self.whole_words = whole_words
        self.spans = spans
        self.span_stop = span_stop
        self.longest_span = longest_span
        special = [vocabulary.ids[piece] for piece in SPECIAL_PIECES.values()]
        self._never = np.zeros(len(vocabulary), bool)
        self._never[special] = True
        self._ordinary = np.array(
            [
                index
                for index, piece in enumerate(vocabulary.pieces)
                if not (len(piece) > 2 and piece[0] == "[" and piece[-1] == "]")
            ],
            np.int32,
        )

    def places(self, room: int) -> int:
        """Places P that a row of at most `room` tokens that may be hidden can need."""
        return masked_places(self.rate, room)

    def __call__(
        self,
        token_ids: np.ndarray,
        word_starts: np.ndarray | None,
        places: int,
        random: np.random.Generator,
    ) -> Masked:
        """Hide tokens.

        Args:
            token_ids: int32 (B, T).
            word_starts: bool (B, T), whether a token begins a word, as each special token does;
                None where words are not asked for.
            places: P, from `places`.
            random: where chance comes from.
        """
        maskable = ~self._never[token_ids]
        wanted = self.rate * maskable.sum(1) + random.random(len(token_ids))
        counts = np.minimum(wanted.astype(np.int64), places)
        groups = None
        if self.spans or self.whole_words:
            words = np.cumsum(word_starts, axis=1) - 1
            groups = words
            if self.spans:
                groups = span_groups(
                    maskable,
                    words,
                    stop=self.span_stop,
                    longest=self.longest_span,
                    random=random,
                )
            positions, used = choose_words(maskable, words, groups, counts, places, random)
        else:
            positions, used = choose_tokens(maskable, counts, places, random)
        fate = random.random(positions.shape, np.float32)
        if self.spans:
            fate = np.take_along_axis(
                random.random(token_ids.shape, np.float32),
                np.take_along_axis(groups, positions, axis=1),
                axis=1,
            )
        rows = np.arange(len(token_ids))[:, None]
        ids = np.where(used, token_ids[rows, positions], 0).astype(np.int32)
        shown = token_ids.copy()
        row, place = np.nonzero(used & (fate < self.mask_share))
        shown[row, positions[row, place]] = self.vocabulary.mask_id
        by_chance = (fate >= self.mask_share) & (fate < self.mask_share + self.random_share)
        row, place = np.nonzero(used & by_chance)
        pieces = self._ordinary[random.integers(0, len(self._ordinary), len(row))]
        shown[row, positions[row, place]] = pieces
        return Masked(shown, positions.astype(np.int32), ids, used.astype(np.float32))
