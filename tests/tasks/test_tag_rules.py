"""Rules of tags and the best sequence: never an invalid one, and the best of all valid ones."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfmodel.data.targets.tagged_words import tags_out_of_turn
from tfmodel.tasks.tag_rules import best_sequences, best_sequences_in_graph, rules_of

BIO = ["O", "B-P", "I-P", "B-L", "I-L"]
BIOES = ["O", "B-P", "I-P", "E-P", "S-P", "S-L"]
SETS = {"BIO": BIO, "BIOES": BIOES, "IOB1": ["O", "I-P", "I-L"], "words": ["NOUN", "VERB"]}


def scores_of(count, tags, seed):
    found = np.random.default_rng(seed).random((count, len(tags))).astype(np.float32) ** 4
    return found / found.sum(axis=-1, keepdims=True)


def keeps_to(path, rules):
    return (
        rules.first[path[0]]
        and rules.last[path[-1]]
        and all(rules.following[one, other] for one, other in itertools.pairwise(path))
    )


def test_rules_of_bio():
    first, following, last = rules_of(BIO)
    assert first.tolist() == [True, True, False, True, False] and last.all()
    assert following[:, 2].tolist() == [False, True, True, False, False]  # I-P
    assert following[:, [0, 1, 3]].all()


def test_rules_of_bioes():
    first, following, last = rules_of(BIOES)
    assert first.tolist() == [True, True, False, False, True, True]
    assert last.tolist() == [True, False, False, True, True, True]
    assert (
        following[1].tolist() == following[2].tolist() == [False, False, True, True, False, False]
    )
    assert following[3].tolist() == [True, True, False, False, True, True]


def test_where_no_tag_begins_a_span_the_inner_one_does():
    assert rules_of(SETS["IOB1"]).first.all() and rules_of(SETS["IOB1"]).following.all()
    assert rules_of(SETS["words"]).following.all()


@pytest.mark.parametrize("name", SETS)
def test_the_best_of_all_valid_sequences(name):
    tags, rules = SETS[name], rules_of(SETS[name])
    for seed in range(20):
        scores = scores_of(4, tags, seed)
        (path,) = best_sequences([scores], tags)
        valid = [p for p in itertools.product(range(len(tags)), repeat=4) if keeps_to(p, rules)]
        worth = [np.log(scores[range(4), list(p)]).sum() for p in valid]
        assert tuple(path) == valid[int(np.argmax(worth))]
        if name.startswith("BIO"):
            assert not tags_out_of_turn([tags[index] for index in path])


@pytest.mark.parametrize("name", SETS)
def test_the_graph_gives_the_same(name):
    tags = SETS[name]
    lengths = [5, 0, 1, 17, 9]
    scores = [scores_of(length, tags, length) for length in lengths]
    wanted = best_sequences(scores, tags)
    padded = np.full((5, 17, len(tags)), np.nan, np.float32)
    for row, each in enumerate(scores):
        padded[row, : len(each)] = each
    signature = [tf.TensorSpec([None, None, len(tags)]), tf.TensorSpec([None], tf.int32)]
    decode = tf.function(
        lambda s, n: best_sequences_in_graph(s, n, tags), input_signature=signature, autograph=False
    )
    given = decode(padded, np.array(lengths, np.int32)).numpy()
    for row, path in enumerate(wanted):
        assert given[row, : len(path)].tolist() == path.tolist()
        assert not given[row, len(path) :].any()
    assert decode(padded[:1, :0], np.zeros(1, np.int32)).shape == (1, 0)
    assert decode(padded[:0], np.zeros(0, np.int32)).shape[0] == 0


def test_long_texts_and_certain_scores_stay_exact():
    tags = BIO
    scores = np.zeros((3000, 5), np.float32)
    right = np.tile([0, 1, 2, 0, 3, 4], 500)
    scores[np.arange(3000), right] = 1
    scores[7] = [0, 0, 1, 0, 0]  # sure of a tag that cannot stand there
    (path,) = best_sequences([scores], tags)
    assert (np.delete(path, [6, 7]) == np.delete(right, [6, 7])).all()
    assert not tags_out_of_turn([tags[index] for index in path])
    assert best_sequences([], tags) == []
