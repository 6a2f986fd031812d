"""Masks: their rates, what is never touched, whole words and spans."""

import numpy as np
import pytest
import small_corpus

from tfmodel.config import ConfigError
from tfmodel.tokens import Vocabulary
from tfmodel.tokens.masking import Masking
from tfmodel.tokens.masking.choosing import draw_span_lengths, span_groups

VOCABULARY = small_corpus.vocabulary()
ORDINARY = [i for i, p in enumerate(VOCABULARY.pieces) if p == "[" or not p.startswith("[")]
KINDS = {
    "tokens": {},
    "words": {"whole_words": True},
    "spans": {"spans": True},
}


def rows(count=300, length=128, *, seed=0):
    """Rows of two texts with [UNK], [EMAIL] and padding; (token_ids, word_starts)."""
    random = np.random.default_rng(seed)
    ids = random.choice(ORDINARY, (count, length)).astype(np.int32)
    ids[random.random(ids.shape) < 0.02] = VOCABULARY.unknown_id
    ids[random.random(ids.shape) < 0.02] = VOCABULARY.ids["[EMAIL]"]
    middle, ends = random.integers(20, 60, count), random.integers(100, length, count)
    at = np.arange(count)
    ids[:, 0] = VOCABULARY.start_id
    ids[at, middle], ids[at, middle + 1] = VOCABULARY.end_id, VOCABULARY.start_id
    ids[at, ends] = VOCABULARY.end_id
    ids[np.arange(length) > ends[:, None]] = VOCABULARY.padding_id
    continues = np.array([p.startswith("##") for p in VOCABULARY.pieces])
    special = ids < len(small_corpus.SPECIAL)
    starts = ~continues[ids]
    starts[:, 1:] |= special[:, :-1]  # a row may begin inside of a word
    return ids, starts


def within(found, share, count, sigmas=3.0):
    assert abs(found / count - share) < sigmas * np.sqrt(share * (1 - share) / count)


def mask(kind, ids, starts, seed=1, **changes):
    masking = Masking(VOCABULARY, **KINDS[kind], **changes)
    places = masking.places(ids.shape[1] - 2)
    return masking(ids, starts, places, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_rates(kind):
    ids, starts = rows(2000)
    masked = mask(kind, ids, starts)
    used = masked.weights > 0
    chosen = int(used.sum())
    within(chosen, 0.15, int((ids >= len(small_corpus.SPECIAL)).sum()))
    at = np.arange(len(ids))[:, None]
    shown = masked.token_ids[at, masked.positions][used]
    was = masked.ids[used]
    within(int((shown == VOCABULARY.mask_id).sum()), 0.8, chosen, 3 if kind != "spans" else 9)
    # A random piece is the old one in 1 of so many cases.
    same = 0.1 + 0.1 / len(ORDINARY)
    within(int((shown == was).sum()), same, chosen, 3 if kind != "spans" else 9)
    # Every place is alike likely.
    where = np.bincount(masked.positions[used], minlength=128)[1:20]
    could = (ids >= len(small_corpus.SPECIAL)).sum(0)[1:20]
    assert np.abs(where / could - 0.15).max() < 5 * np.sqrt(0.15 * 0.85 / 2000)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_hidden_is_told_and_nothing_else_changes(kind):
    ids, starts = rows()
    before = ids.copy()
    masked = mask(kind, ids, starts)
    np.testing.assert_array_equal(ids, before)
    used = masked.weights > 0
    for row in range(len(ids)):
        positions = masked.positions[row][used[row]]
        assert len({*positions.tolist()}) == len(positions)
        np.testing.assert_array_equal(masked.ids[row][used[row]], ids[row, positions])
        others = np.setdiff1d(np.arange(ids.shape[1]), positions)
        np.testing.assert_array_equal(masked.token_ids[row, others], ids[row, others])
    assert not masked.ids[~used].any()
    assert not masked.positions[~used].any()
    assert {masked.token_ids.dtype, masked.positions.dtype, masked.ids.dtype} == {ids.dtype}
    assert masked.weights.dtype == np.float32
    # Special tokens are neither chosen nor put in; nor are reserved ones put in.
    assert masked.ids[used].min() >= len(small_corpus.SPECIAL)
    assert VOCABULARY.ids["[EMAIL]"] in masked.ids[used]
    changed = masked.token_ids[masked.token_ids != ids]
    assert {*changed.tolist()} <= {VOCABULARY.mask_id, *ORDINARY}


@pytest.mark.parametrize("kind", ["words", "spans"])
def test_a_word_is_hidden_whole_or_not_at_all(kind):
    ids, starts = rows()
    masked = mask(kind, ids, starts)
    hidden = np.zeros(ids.shape, bool)
    row, place = np.nonzero(masked.weights)
    hidden[row, masked.positions[row, place]] = True
    word = np.cumsum(starts.ravel()) - 1
    sizes = np.bincount(word)
    assert {*np.bincount(word, hidden.ravel())[np.unique(word[hidden.ravel()])]} <= {*sizes}
    counts = np.bincount(word, hidden.ravel())
    assert ((counts == 0) | (counts == sizes)).all()
    assert sizes[counts > 0].max() > 3


def test_lengths_of_spans():
    random = np.random.default_rng(0)
    lengths = draw_span_lengths((200_000,), stop=0.2, longest=10, random=random)
    shares = 0.2 * 0.8 ** np.arange(10)
    shares /= shares.sum()
    for length, share in enumerate(shares, start=1):
        within(int((lengths == length).sum()), share, len(lengths))
    assert lengths.max() == 10
    assert lengths.mean() == pytest.approx(3.8, abs=0.03)  # the paper's figure


def test_spans_cover_whole_words_of_one_text():
    ids, starts = rows(300)
    maskable = ids >= len(small_corpus.SPECIAL)
    words = np.cumsum(starts, axis=1) - 1
    spans = span_groups(maskable, words, stop=0.2, longest=10, random=np.random.default_rng(0))
    for row in range(300):
        for span in range(spans[row].max() + 1):
            inside = spans[row] == span
            assert maskable[row, inside].all() or inside.sum() == 1
            # No other span has a part of its words.
            assert len({*spans[row, np.isin(words[row], words[row, inside])]}) == 1
            assert len({*words[row, inside]}) <= 10
    # In a text without an end the spans are as they were drawn.
    long = np.ones((50, 5000), bool)
    words = np.broadcast_to(np.arange(5000), long.shape)
    spans = span_groups(long, words, stop=0.2, longest=10, random=np.random.default_rng(1))
    lengths = np.concatenate([np.bincount(row)[:-1] for row in spans])
    shares = 0.2 * 0.8 ** np.arange(10)
    for length, share in enumerate(shares / shares.sum(), start=1):
        within(int((lengths == length).sum()), share, len(lengths))


def test_hidden_spans_are_long_and_share_a_fate():
    ids = np.full((200, 512), ORDINARY[0], np.int32)
    masked = mask("spans", ids, np.ones(ids.shape, bool))
    lone = mask("tokens", ids, None)

    def runs(masked):
        hidden = np.zeros(ids.shape, int)
        row, place = np.nonzero(masked.weights)
        hidden[row, masked.positions[row, place]] = 1
        return hidden.sum() / (np.diff(hidden, axis=1, prepend=0) == 1).sum()

    # 15% alone make runs of 1 / 0.85; spans of 3.8 words that may touch, longer ones.
    assert runs(lone) == pytest.approx(1 / 0.85, rel=0.05)
    assert 3.5 < runs(masked) < 5
    shown = masked.token_ids == VOCABULARY.mask_id
    begins = (np.diff(shown.astype(int), axis=1, prepend=0) == 1).sum()
    assert shown.sum() / begins > 3  # not cut through by kept ones


def test_masks_are_a_function_of_the_random_numbers():
    ids, starts = rows(64)
    for kind in KINDS:
        first, same, other = (mask(kind, ids, starts, seed) for seed in (1, 1, 2))
        for a, b in zip(first, same, strict=True):
            np.testing.assert_array_equal(a, b)
        assert (first.positions != other.positions).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.01, 0.15, 0.4, 0.9])
def test_any_rate_fits_the_places(kind, rate):
    ids, starts = rows(300)
    masked = mask(kind, ids, starts, rate=rate)
    count = int((ids >= len(small_corpus.SPECIAL)).sum())
    assert masked.weights.sum() / count == pytest.approx(rate, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [101, 129])
def test_any_length(kind, length):
    ids, starts = rows(300, length)
    masked = mask(kind, ids, starts)
    count = int((ids >= len(small_corpus.SPECIAL)).sum())
    assert masked.weights.sum() / count == pytest.approx(0.15, rel=0.05)


def test_rows_with_nothing_to_hide():
    ids = np.full((3, 8), VOCABULARY.padding_id, np.int32)
    ids[0, :3] = [VOCABULARY.start_id, VOCABULARY.unknown_id, VOCABULARY.end_id]
    for kind in KINDS:
        masked = mask(kind, ids, np.ones(ids.shape, bool))
        assert masked.weights.sum() == 0
        np.testing.assert_array_equal(masked.token_ids, ids)


def test_a_vocabulary_without_mask_is_refused():
    pieces = [p for p in small_corpus.PIECES if p != "[MASK]"]
    with pytest.raises(ConfigError, match=r"Expected a vocabulary with \[MASK\]"):
        Masking(Vocabulary(pieces))
