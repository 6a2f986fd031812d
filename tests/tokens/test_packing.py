"""Packed rows: full, every token once, and no text sees another."""

import dataclasses

import keras
import needs
import numpy as np
import pytest
import small_corpus

from tfmodel.config import ConfigError
from tfmodel.tokens import Vocabulary, write_token_documents
from tfmodel.tokens.packing import PackedRows, cut_documents, pack_lengths, ranges

VOCABULARY = small_corpus.vocabulary()


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packing") / "tokens"
    texts = [*small_corpus.texts(400), "Ka."]
    return write_token_documents(texts, small_corpus.tokenizer(), folder)


@pytest.fixture(scope="module")
def with_sentences(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packing") / "tokens"
    texts = small_corpus.texts(400)
    return write_token_documents(texts, small_corpus.tokenizer(), folder, sentences=True)


@pytest.mark.parametrize("room", [6, 30, 126, 5000])
def test_pieces_are_the_documents_again(documents, room):
    pieces = cut_documents(documents, VOCABULARY, room=room)
    assert pieces.lengths.max() <= room
    covered = np.zeros(len(documents.ids), int)
    covered[ranges(pieces.starts, pieces.lengths)] += 1
    assert pieces.lengths.sum() == covered.sum()  # none twice
    assert pieces.left_out == (covered == 0).sum() >= 2  # "Ka." and remainders
    assert pieces.left_out < 0.02 * len(documents.ids) or room == 6
    for start, length, document in zip(
        pieces.starts, pieces.lengths, pieces.documents, strict=True
    ):
        assert documents.splits[document] <= start
        assert start + length <= documents.splits[document + 1]


def test_documents_are_cut_at_sentences_and_words(documents, with_sentences):
    ends = {VOCABULARY.ids["."], VOCABULARY.ids["!"]}
    for made in (documents, with_sentences):
        pieces = cut_documents(made, VOCABULARY, room=126)
        inside = ~np.isin(pieces.starts, made.splits)
        starts = pieces.starts[inside]
        assert all(made.marks[starts] & 1)  # no word is cut through
        at_end = np.isin(made.ids[starts - 1], [*ends])
        assert at_end.mean() > 0.7  # a sentence of 15 tokens does not always end in the last 15
        every = cut_documents(made, VOCABULARY, room=126, back=0.5)
        starts = every.starts[~np.isin(every.starts, made.splits)]
        assert np.isin(made.ids[starts - 1], [*ends]).mean() > 0.99


def test_a_cut_may_be_asked_to_leave_sentences(with_sentences):
    sentences = np.flatnonzero(with_sentences.marks & 2)
    pieces = cut_documents(with_sentences, VOCABULARY, room=40, back=1.0, sentences=2)
    first = np.searchsorted(sentences, pieces.starts, side="right")
    inside = np.searchsorted(sentences, pieces.starts + pieces.lengths) - first
    longer = pieces.lengths > 30
    assert (inside[longer] > 0).mean() > 0.97


def test_shorter_rooms_are_drawn(documents):
    plain = cut_documents(documents, VOCABULARY, room=126)
    some = cut_documents(documents, VOCABULARY, room=126, short_share=0.5, seed=1)
    same = cut_documents(documents, VOCABULARY, room=126, short_share=0.5, seed=1)
    assert len(some) > 1.2 * len(plain)
    np.testing.assert_array_equal(some.starts, same.starts)
    assert some.lengths.sum() + some.left_out == len(documents.ids)


@pytest.mark.parametrize("room", [8, 128, 512])
def test_lengths_fill_rows(room):
    random = np.random.default_rng(0)
    lengths = random.integers(1, room + 1, 3000)
    order, splits = pack_lengths(lengths, room)
    assert sorted(order) == sorted(lengths)
    rows = np.add.reduceat(order, splits[:-1])
    assert rows.max() <= room
    assert (np.diff(splits) > 0).all()
    assert rows.mean() > 0.97 * room
    # As good as best fit, one after the other.
    left: list[int] = []
    for length in sorted(lengths, reverse=True):
        fits = [row for row, space in enumerate(left) if space >= length]
        if fits:
            left[min(fits, key=left.__getitem__)] -= length
        else:
            left.append(room - length)
    assert len(rows) <= len(left) + 1


def test_packing_a_million_lengths_is_quick():
    lengths = np.random.default_rng(0).integers(6, 513, 1_000_000)
    order, splits = pack_lengths(lengths, 512)
    assert len(order) == 1_000_000
    assert order.sum() > 0.97 * 512 * (len(splits) - 1)


def test_no_lengths_are_no_rows():
    order, splits = pack_lengths(np.empty(0, int), 16)
    assert len(order) == 0
    assert splits.tolist() == [0]


def texts_of(inputs):
    """The texts of a batch without special tokens, and a check of the rows' form."""
    found = []
    for ids, mask in zip(inputs["token_ids"], inputs["padding_mask"], strict=True):
        numbers = [*range(1, mask.max() + 1)]
        assert mask[mask > 0].tolist() == sorted(mask[mask > 0])
        assert not mask[(mask > 0).sum() :].any()
        assert (ids[mask == 0] == VOCABULARY.padding_id).all()
        for number in numbers:
            text = ids[mask == number]
            assert text[0] == VOCABULARY.start_id
            assert text[-1] == VOCABULARY.end_id
            found.append(tuple(text[1:-1].tolist()))
    return found


def test_each_epoch_packs_every_piece_once_and_anew(documents):
    rows = PackedRows(documents, VOCABULARY, 64)
    expected = sorted(
        tuple(documents.ids[start : start + length].tolist())
        for start, length in zip(rows.pieces.starts, rows.pieces.lengths, strict=True)
    )
    epochs = []
    for seed in (0, 1):
        drawn = rows.drawn(np.random.default_rng(seed))
        inputs = rows.inputs(drawn, np.arange(len(rows)))
        texts = texts_of(inputs)
        assert sorted(texts) == expected
        np.testing.assert_array_equal((inputs["padding_mask"] > 0).sum(1), rows.lengths)
        assert inputs["token_ids"].shape == (len(rows), 64)
        assert not inputs["segment_ids"].any()
        epochs.append(texts)
        continues = [VOCABULARY.pieces[i].startswith("##") for i in inputs["token_ids"].ravel()]
        assert (inputs["word_starts"].ravel() == ~np.array(continues)).mean() > 0.99
        # The first of a text begins a word though it continues one, for its begin is elsewhere.
        start = np.roll(inputs["token_ids"] == VOCABULARY.start_id, 1, axis=1)
        assert inputs["word_starts"][start].all()
    assert epochs[0] != epochs[1]
    assert rows.padding_share < 0.03


def test_rows_are_full(documents):
    for length in (128, 256):
        assert PackedRows(documents, VOCABULARY, length).padding_share < 0.03


def test_no_text_is_long_enough(tmp_path):
    short = write_token_documents(["Ka.", "Lo"], small_corpus.tokenizer(), tmp_path / "tokens")
    with pytest.raises(ConfigError, match="documents of at least 4 tokens. Received: 2 documents"):
        PackedRows(short, VOCABULARY, 16)


def test_no_text_sees_another(documents):
    from tfmodel.model import SIZES, build_encoder

    keras.utils.set_random_seed(0)
    config = dataclasses.replace(SIZES["tiny"], vocabulary_size=len(VOCABULARY))
    encoder = build_encoder(config)
    rows = PackedRows(documents, VOCABULARY, 64)
    many = np.flatnonzero(np.diff(rows._splits) >= 2)[:4]
    inputs = rows.inputs(rows.drawn(np.random.default_rng(0)), many)
    inputs.pop("word_starts")
    together = keras.ops.convert_to_numpy(encoder(inputs)["sequence"])
    second = inputs["padding_mask"] == 2
    # Outputs: each text alone in its row gives the same.
    for row in range(len(many)):
        for number in range(1, inputs["padding_mask"][row].max() + 1):
            own = inputs["padding_mask"][row] == number
            alone = {
                "token_ids": inputs["token_ids"][row, own][None],
                "segment_ids": inputs["segment_ids"][row, own][None],
                "padding_mask": np.ones((1, own.sum()), np.int32),
            }
            expected = keras.ops.convert_to_numpy(encoder(alone)["sequence"])[0]
            np.testing.assert_allclose(together[row, own], expected, atol=2e-5)
    # Another text beside it changes nothing.
    others = dict(inputs, token_ids=np.where(second, VOCABULARY.ids["ka"], inputs["token_ids"]))
    changed = keras.ops.convert_to_numpy(encoder(others)["sequence"])
    np.testing.assert_array_equal(changed[~second], together[~second])
    assert np.abs(changed[second] - together[second]).max() > 0.01


def test_no_gradient_reaches_another_text(documents):
    import tensorflow as tf

    from tfmodel.model import SIZES, build_encoder
    from tfmodel.model.embeddings import perturbed

    config = dataclasses.replace(SIZES["tiny"], vocabulary_size=len(VOCABULARY))
    encoder = build_encoder(config)
    rows = PackedRows(documents, VOCABULARY, 64)
    many = np.flatnonzero(np.diff(rows._splits) >= 2)[:4]
    inputs = rows.inputs(rows.drawn(np.random.default_rng(0)), many)
    inputs.pop("word_starts")
    second = inputs["padding_mask"] == 2
    at = tf.zeros((*second.shape, config.hidden_size))
    weights = tf.random.stateless_normal(at.shape, [0, 0])
    with tf.GradientTape() as tape:
        tape.watch(at)
        with perturbed(at):
            hidden = encoder(inputs)["sequence"]
        loss = tf.reduce_sum(hidden * weights * tf.cast(second, tf.float32)[..., None])
    gradient = np.abs(tape.gradient(loss, at).numpy()).sum(-1)
    assert (gradient[second] > 0).all()
    assert (gradient[~second] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("length", [128, 512])
@pytest.mark.parametrize("slice_", ["wiki_en", "wiki_zh"])
def test_real_rows_are_full(tmp_path, slice_, length):
    from tfmodel.tokens import Tokenizer

    folder = needs.shared_data(slice_)
    name = {"wiki_en": "uncased", "wiki_zh": "chinese"}[slice_]
    path = needs.shared_data(f"vocabs/bert-base-{name}-vocab.txt")
    vocabulary = Vocabulary.from_file(path)
    texts = (
        text.partition(">")[2]
        for file in sorted(folder.iterdir())[:8]
        for text in file.read_text("utf-8").split("</doc>")
        if len(text) > 200
    )
    documents = write_token_documents(texts, Tokenizer(vocabulary), tmp_path / "tokens")
    assert PackedRows(documents, vocabulary, length).padding_share <= 0.03
