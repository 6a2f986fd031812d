"""Batches of every objective: one contract, and what each promises beyond."""

import keras
import numpy as np
import pydantic
import pytest
import small_corpus

from tfmodel.config import ConfigError, Settings, load_config
from tfmodel.tokens import PretrainingBatches, write_token_documents
from tfmodel.tokens.batches import batches_of
from tfmodel.tokens.objectives import (
    ElectraSettings,
    MlmSettings,
    NspSettings,
    ObjectiveSettings,
    SimcseSettings,
    SopSettings,
)

VOCABULARY = small_corpus.vocabulary()
MASKED = {"token_ids", "segment_ids", "padding_mask", "masked_positions"}
# Objective, its inputs, its targets.
OBJECTIVES = {
    "mlm": (MlmSettings(), MASKED, {"masked_ids"}),
    "words": (MlmSettings(whole_words=True), MASKED, {"masked_ids"}),
    "spans": (MlmSettings(spans=True), MASKED, {"masked_ids"}),
    "nsp": (NspSettings(), MASKED, {"masked_ids", "pair_labels"}),
    "sop": (SopSettings(), MASKED, {"masked_ids", "pair_labels"}),
    "electra": (ElectraSettings(), {*MASKED, "original_ids"}, {"masked_ids"}),
    "simcse": (SimcseSettings(), MASKED - {"masked_positions"}, set()),
}


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches") / "tokens"
    texts = [*small_corpus.texts(140), *small_corpus.texts(20)]  # some twice
    return write_token_documents(texts, small_corpus.tokenizer(), folder, sentences=True)


@pytest.fixture(scope="module")
def distinct(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distinct") / "tokens"
    texts = small_corpus.texts(150)
    return write_token_documents(texts, small_corpus.tokenizer(), folder, sentences=True)


def make(documents, name="mlm", **changes):
    arguments = {"max_length": 64, "batch_size": 16, "seed": 3, **changes}
    objective = OBJECTIVES[name][0] if isinstance(name, str) else name
    return PretrainingBatches(documents, objective=objective, vocabulary=VOCABULARY, **arguments)


def flat(batch):
    return [np.asarray(array) for array in keras.tree.flatten(batch)]


def same(first, second):
    pairs = zip(flat(first), flat(second), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_contract(documents, name):
    _, inputs_wanted, targets_wanted = OBJECTIVES[name]
    batches = make(documents, name)
    assert len(batches) == len(batches.plan(0)) == len(batches.plan(5)) > 5
    assert sorted(np.concatenate(batches.plan(1))) == [*range(len(batches.rows))]
    assert 0 <= batches.padding_share < 0.1
    for index, rows in enumerate(batches.plan(1)):  # which rows and how long they are: this epoch's
        real = batches.batch(1, index)[0]["padding_mask"] > 0
        assert real.sum(1).tolist() == batches.row_lengths(1)[rows].tolist()
    for index, rows in enumerate(batches.plan(0)):
        inputs, targets, weights = batches.batch(0, index)
        assert {*inputs} == inputs_wanted
        shape = inputs["token_ids"].shape
        assert shape[0] == len(rows)
        assert shape[1] <= 64
        for key in inputs_wanted - {"masked_positions"}:
            assert inputs[key].shape == shape
        assert {array.dtype for array in inputs.values()} == {np.dtype(np.int32)}
        assert (inputs["token_ids"][:, 0] == VOCABULARY.start_id).all()
        if not targets_wanted:
            assert targets is None
            assert weights is None
            continue
        if targets_wanted == {"masked_ids"}:
            targets, weights = {"masked_ids": targets}, {"masked_ids": weights}
        assert {*targets} == {*weights} == targets_wanted
        for key in targets_wanted:
            assert targets[key].shape == weights[key].shape
            assert (targets[key].dtype, weights[key].dtype) == (np.int32, np.float32)
        assert inputs["masked_positions"].shape == targets["masked_ids"].shape
        used = weights["masked_ids"] > 0
        where = np.take_along_axis(inputs["padding_mask"], inputs["masked_positions"], axis=1)
        assert (where[used] > 0).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_batches_are_a_function_of_seed_epoch_and_position(documents, name):
    first, second = make(documents, name), make(documents, name)
    epoch = [[*first], [*first]]
    # In any order, from any object: as after an interruption.
    second.epoch, second.skip = 1, 4
    rest = [*second]
    assert len(rest) == len(first) - 4
    assert all(same(a, b) for a, b in zip(rest, epoch[1][4:], strict=True))
    assert (second.epoch, second.skip) == (2, 0)
    given = [part for part in second.batch(0, 2) if part is not None]
    assert same(given, epoch[0][2])
    assert not any(same(a, b) for a, b in zip(*epoch, strict=True))
    other = [*make(documents, name, seed=4)]
    assert not any(same(a, b) for a, b in zip(epoch[0], other, strict=True))
    fixed = make(documents, name, fixed=True)
    assert all(same(a, b) for a, b in zip([*fixed], [*fixed], strict=True))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_dataset(documents, name):
    batches = make(documents, name)
    batches.skip = 1
    dataset = batches.dataset()
    assert int(dataset.cardinality()) == len(batches) - 1
    assert batches_of(dataset) is batches
    expected = [*make(documents, name)]
    assert all(same(a, b) for a, b in zip(dataset, expected[1:], strict=True))
    batches = make(documents, name)
    batches.epoch = 1
    assert same(next(iter(dataset)), next(iter(batches)))


def test_masks_change_where_rows_stay(documents):
    # The same pieces meet in the same row now and then: the mask is another.
    batches = make(documents, "mlm", max_length=16)
    seen: dict[bytes, list[bytes]] = {}
    for epoch in range(4):
        for index in range(len(batches)):
            inputs, ids, weights = batches.batch(epoch, index)
            original = inputs["token_ids"].copy()
            row, place = np.nonzero(weights)
            original[row, inputs["masked_positions"][row, place]] = ids[row, place]
            for number, ids in enumerate(original):
                mask = np.sort(inputs["masked_positions"][number][weights[number] > 0]).tobytes()
                seen.setdefault(ids.tobytes(), []).append(mask)
    repeated = [masks for masks in seen.values() if len(masks) > 3]
    assert len(repeated) > 50
    assert np.mean([len({*masks}) > 1 for masks in repeated]) > 0.9


def test_electra_gets_masks_and_what_was_there(documents):
    batches = make(documents, "electra")
    for index in range(len(batches)):
        inputs, ids, weights = batches.batch(0, index)
        masked = inputs["token_ids"] == VOCABULARY.mask_id
        assert masked.sum() == weights.sum()
        np.testing.assert_array_equal(
            inputs["original_ids"], np.where(masked, inputs["original_ids"], inputs["token_ids"])
        )
        found = np.take_along_axis(inputs["original_ids"], inputs["masked_positions"], axis=1)
        np.testing.assert_array_equal(np.where(weights > 0, found, 0), ids)


# --- pairs --------------------------------------------------------------------------------


def pairs(documents, name, epoch=0, **changes):
    """(first ids, second ids, label) of all rows of an epoch, unmasked."""
    batches = make(documents, name, max_length=96, **changes)
    for index in range(len(batches)):
        inputs, targets, weights = batches.batch(epoch, index)
        original = inputs["token_ids"].copy()
        row, place = np.nonzero(weights["masked_ids"])
        positions = inputs["masked_positions"][row, place]
        original[row, positions] = targets["masked_ids"][row, place]
        for ids, segments, mask, label in zip(
            original,
            inputs["segment_ids"],
            inputs["padding_mask"],
            targets["pair_labels"],
            strict=True,
        ):
            ids, segments = ids[mask > 0], segments[mask > 0]
            first, second = ids[segments == 0], ids[segments == 1]
            assert (first[0], first[-1], second[-1]) == (
                VOCABULARY.start_id,
                VOCABULARY.end_id,
                VOCABULARY.end_id,
            )
            yield first[1:-1].tolist(), second[:-1].tolist(), int(label)


def joined(documents):
    return ";".join("," + ",".join(map(str, document.tolist())) + "," for document in documents)


def inside(ids, texts):
    return "," + ",".join(map(str, ids)) + "," in texts


@pytest.mark.parametrize("name", ["nsp", "sop"])
def test_pairs(distinct, name):
    texts = joined(distinct)
    found = [*pairs(distinct, name)]
    labels = np.array([label for *_, label in found])
    assert abs(labels.mean() - 0.5) < 3 * 0.5 / np.sqrt(len(labels))
    for first, second, label in found:
        assert inside(first, texts)
        assert inside(second, texts)
        assert inside(first + second, texts) == (label == 0)
        if name == "sop" and label:
            assert inside(second + first, texts)
    # Where pieces are cut in two is another place in each epoch.
    again = [*pairs(distinct, name, epoch=1)]
    firsts = [{tuple(first) for first, *_ in each} for each in (found, again)]
    assert len(firsts[0] & firsts[1]) < 0.6 * len(firsts[0])


def test_lengths_tell_nothing_of_the_next_sentence(distinct):
    found = [*pairs(distinct, "nsp"), *pairs(distinct, "nsp", epoch=1)]
    for length in (
        lambda first, second: len(second),
        lambda first, second: len(first) + len(second),
    ):
        by_label = [
            np.array([length(a, b) for a, b, each in found if each == label]) for label in (0, 1)
        ]
        spread = np.sqrt(sum(each.var() / len(each) for each in by_label))
        assert abs(by_label[0].mean() - by_label[1].mean()) < 4 * spread


def test_second_segments_are_exchanged_not_lost(distinct):
    found = [*pairs(distinct, "nsp")]
    order = make(distinct, "nsp", max_length=96).rows
    tokens = sum(len(first) + len(second) for first, second, _ in found)
    assert tokens > 0.99 * int(order.pieces.lengths.sum())
    assert order.pieces.left_out + int(order.pieces.lengths.sum()) == len(distinct.ids)
    assert order.pieces.left_out < 0.05 * len(distinct.ids)


# --- sentences ----------------------------------------------------------------------------


def test_sentences_come_once(documents):
    batches = make(documents, "simcse")
    found = []
    for inputs in batches:
        for ids, mask in zip(inputs["token_ids"], inputs["padding_mask"], strict=True):
            found.append(tuple(ids[mask > 0][1:-1].tolist()))
    starts = np.flatnonzero(documents.marks & 2)
    sentences = np.split(np.asarray(documents.ids), starts[1:])
    long_enough = [tuple(each[:62].tolist()) for each in sentences if len(each) >= 4]
    assert sorted(found) == sorted({*long_enough})
    account = batches.rows.account
    assert account["sentences"] == len(sentences)
    assert account["repeated"] == len(long_enough) - len(found) > 20
    assert account["too_short"] == len(sentences) - len(long_enough)


# --- settings and mistakes ----------------------------------------------------------------


class Whole(Settings):
    objective: ObjectiveSettings = MlmSettings()


def test_objectives_are_told_apart_by_name():
    def read(values):
        return load_config({"objective": values}, Whole).objective

    assert load_config({}, Whole).objective == MlmSettings()
    assert read({"mask_rate": 0.3}) == MlmSettings(mask_rate=0.3)
    assert read({"name": "nsp"}) == NspSettings()
    assert read({"name": "electra", "spans": True}) == ElectraSettings(spans=True)
    for values, message in (
        ({"name": "mln"}, "mln"),
        ({"name": "mlm", "mask_rat": 0.1}, "mask_rate"),
        ({"mask_rate": 1.5}, "mask_rate"),
        ({"mask_share": 0.8, "random_share": 0.3}, "more than 1 together"),
        ({"name": "simcse", "mask_rate": 0.1}, "mask_rate"),
    ):
        with pytest.raises(ConfigError, match=message):
            read(values)
    assert load_config({"objective": {"name": "sop"}}, Whole).model_dump()["objective"]["name"]


def test_settings_are_frozen():
    with pytest.raises(pydantic.ValidationError):
        MlmSettings().mask_rate = 0.5


def test_fingerprints(documents):
    own = make(documents).fingerprint
    assert own == make(documents).fingerprint
    for changes in ({"seed": 4}, {"batch_size": 8}, {"max_length": 32}, {"fixed": True}):
        assert make(documents, **changes).fingerprint != own
    assert make(documents, MlmSettings(mask_rate=0.2)).fingerprint != own


def test_mistakes_are_named(documents, tmp_path):
    tokenizer = small_corpus.tokenizer()
    with pytest.raises(ConfigError, match="batch_size must be 1 or more"):
        make(documents, batch_size=0)
    with pytest.raises(ConfigError, match="max_length must be 8 or more"):
        make(documents, max_length=7)
    plain = write_token_documents(["Ka lo mi. Ra ro."], tokenizer, tmp_path / "plain")
    for name in ("nsp", "sop", "simcse"):
        with pytest.raises(ConfigError, match=f"objective {name} needs documents whose sentences"):
            make(plain, name)
    one = write_token_documents(
        ["Ka lo mi. Ra ro re."], tokenizer, tmp_path / "one", sentences=True
    )
    assert len(make(one, "sop")) == 1
    with pytest.raises(ConfigError, match="nsp needs two documents"):
        make(one, "nsp")
    short = write_token_documents(
        ["Ka lo mi ra", "Ro."], tokenizer, tmp_path / "short", sentences=True
    )
    with pytest.raises(ConfigError, match="sop needs documents of two sentences"):
        make(short, "sop")
    with pytest.raises(ConfigError, match="simcse needs sentences of 50 tokens"):
        make(short, SimcseSettings(shortest=50))
    assert len(make(short)) == 1


def test_batches_of_one_document(tmp_path):
    one = write_token_documents(["Ka lo mi ra."], small_corpus.tokenizer(), tmp_path / "one")
    batches = make(one)
    inputs, _, _ = batches.batch(0, 0)
    assert inputs["padding_mask"].sum() == 7
