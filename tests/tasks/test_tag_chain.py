"""The CRF of `tag`: loss, gradients, answers and probabilities beside all sequences there are."""

import itertools
from types import SimpleNamespace

import keras
import needs
import numpy as np
import pytest
import tensorflow as tf

from tfmodel.config import ConfigError, load_config
from tfmodel.kinds.supervised import RunSettings
from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import tag
from tfmodel.tasks.tag_chain import ChainLoss, Transitions, chained, read_transitions
from tfmodel.tasks.tag_marginals import tag_chances, tag_chances_in_graph
from tfmodel.tasks.tag_rules import (
    best_sequences,
    best_sequences_in_graph,
    costs_of,
    rules_of,
    worth,
)

SETS = {
    "BIO": ["O", "B-P", "I-P", "B-L", "I-L"],
    "BIOES": ["O", "B-P", "I-P", "E-P", "S-P", "S-L"],
    "IOB1": ["O", "I-P", "I-L"],
}
BIO = SETS["BIO"]
# Three rows of six tokens: a text with a skipped piece; the first window of a text; the other one,
# and a text packed behind it.
WORDS = np.array([[1, 1, 1, 0, 1, 0], [1, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1]], bool)
TEXTS = np.array([[0] * 6, [1] * 6, [1, 1, 1, 1, 2, 2]])
TAGS = np.array([[0, 1, 2, 0, 3, 0], [1, 0, 0, 0, 3, 4], [0, 4, 1, 2, 3, 4]])
# row, tokens, whether it begins and whether it ends a text
CHAINS = [(0, [0, 1, 2, 4], True, True), (1, [0, 3, 4, 5], True, False)]
CHAINS += [(2, [1, 2, 3], False, True), (2, [4, 5], True, True)]


def layer_of(tags, seed=0):
    layer = Transitions(tags)
    layer.build((None, None, len(tags)))
    generator = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        weight.assign(generator.normal(size=weight.shape))
    return layer


def codes_of(tags, count):
    rows = np.repeat(np.arange(len(tags)), tags.shape[1])
    found = chained(tags.ravel(), WORDS.ravel(), rows, TEXTS.ravel(), count=count)
    return found.reshape(tags.shape)


def all_sequences(unaries, costs, *, begins=True, ends=True):
    """Every sequence of tags of a chain and its score, in float64: (S, N) and (S,)."""
    count = unaries.shape[1]
    first, following, last = (np.asarray(each, np.float64) for each in costs)
    paths = np.array([*itertools.product(range(count), repeat=len(unaries))])
    scores = unaries.astype(np.float64)[np.arange(len(unaries)), paths].sum(1)
    scores += following[paths[:, :-1], paths[:, 1:]].sum(1)
    scores += begins * first[paths[:, 0]] + ends * last[paths[:, -1]]
    return paths, scores


def log_sum(scores):
    return np.log(np.exp(scores - scores.max()).sum()) + scores.max()


def test_the_loss_is_that_of_all_sequences():
    logits = 3 * np.random.default_rng(1).normal(size=(*WORDS.shape, 5)).astype(np.float32)
    layer, codes = layer_of(BIO), codes_of(TAGS, 5)
    assert (codes > 0).tolist() == WORDS.tolist()
    wanted = 0.0
    for row, tokens, begins, ends in CHAINS:
        paths, scores = all_sequences(logits[row, tokens], layer.costs(), begins=begins, ends=ends)
        right = (paths == TAGS[row, tokens]).all(1)
        wanted += log_sum(scores) - scores[right].item()
    given = tag.loss(chain=layer)(codes, logits, sample_weight=WORDS.astype(np.float32))
    assert float(given) == pytest.approx(wanted / WORDS.sum(), abs=1e-5)


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_gradients_are_those_of_all_sequences(jit):
    """The probability of each tag, and of each pair, less what is right."""
    logits = 2 * np.random.default_rng(2).normal(size=(*WORDS.shape, 5)).astype(np.float32)
    layer, codes = layer_of(BIO), codes_of(TAGS, 5)
    wanted = [np.zeros_like(logits, np.float64), np.zeros(5), np.zeros((5, 5)), np.zeros(5)]
    for row, tokens, begins, ends in CHAINS:
        paths, scores = all_sequences(logits[row, tokens], layer.costs(), begins=begins, ends=ends)
        right = (paths == TAGS[row, tokens]).all(1)
        shares = np.exp(scores - log_sum(scores)) - right
        for place, token in enumerate(tokens):
            np.add.at(wanted[0][row, token], paths[:, place], shares)
        np.add.at(wanted[2], (paths[:, :-1], paths[:, 1:]), shares[:, None])
        np.add.at(wanted[1], paths[:, 0], begins * shares)
        np.add.at(wanted[3], paths[:, -1], ends * shares)
    for each, allowed in zip(wanted[1:], rules_of(BIO), strict=True):
        each[~allowed] = 0  # held where it is
    loss, weights = tag.loss(chain=layer), WORDS.astype(np.float32)

    def gradients(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            lost = loss(codes, logits, sample_weight=weights)
        return tape.gradient(lost, [logits, *(each.value for each in layer.trainable_weights)])

    signature = [tf.TensorSpec((None, None, 5))]
    compiled = tf.function(gradients, input_signature=signature, jit_compile=jit, autograph=False)
    for given, due in zip(compiled(logits), wanted, strict=True):
        np.testing.assert_allclose(given, due / WORDS.sum(), atol=1e-6)


@pytest.mark.slow
def test_loss_gradients_and_answers_are_those_of_pytorch_crf():
    torch, theirs = needs.package("torch"), needs.package("torchcrf")
    generator = np.random.default_rng(3)
    lengths = np.array([11, 1, 30, 7])
    is_word = np.arange(30) < lengths[:, None]
    logits = 2 * generator.normal(size=(4, 30, 6)).astype(np.float32)
    layer = layer_of(SETS["BIOES"])
    costs = {name: np.array(each) for name, each in layer.costs()._asdict().items()}
    chances = [logits[row, :length] for row, length in enumerate(lengths)]
    probabilities = [np.exp(each) / np.exp(each).sum(-1, keepdims=True) for each in chances]
    tags = np.zeros((4, 30), np.int64)  # any that the rules allow
    for row, path in enumerate(best_sequences([p[::-1] for p in probabilities], layer.tags)):
        tags[row, : len(path)] = path
    crf = theirs.CRF(6, batch_first=True)
    with torch.no_grad():
        for name, value in zip(
            ("start_transitions", "transitions", "end_transitions"), costs.values(), strict=True
        ):
            getattr(crf, name).copy_(torch.tensor(value))
    emissions = torch.tensor(logits, requires_grad=True)
    mask = torch.tensor(is_word)
    wanted = -crf(emissions, torch.tensor(tags), mask=mask, reduction="token_mean")
    wanted.backward()
    rows = np.repeat(np.arange(4), 30)
    codes = chained(tags.ravel(), is_word.ravel(), rows, rows, count=6).reshape(4, 30)
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        given = ChainLoss(layer)(codes, logits, sample_weight=is_word.astype(np.float32))
    found = tape.gradient(given, [logits, layer.first.value, layer.following.value])
    assert float(given) == pytest.approx(float(wanted.detach()), abs=1e-5)
    np.testing.assert_allclose(found[0], emissions.grad.numpy(), atol=1e-5)
    for ours, their in zip(found[1:], (crf.start_transitions, crf.transitions), strict=True):
        free = np.array(costs["first" if ours.shape.rank == 1 else "following"]) > -1e5
        np.testing.assert_allclose(np.array(ours)[free], their.grad.numpy()[free], atol=1e-5)
    decoded = crf.decode(emissions, mask=mask)
    mine = best_sequences(probabilities, layer.tags, layer.decoding()["transitions"])
    assert [path.tolist() for path in mine] == decoded


def as_scores(logits):
    found = np.exp(logits - logits.max(-1, keepdims=True))
    return (found / found.sum(-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("name", SETS)
def test_the_answer_is_the_best_of_all_sequences_and_never_invalid(name):
    tags, rules = SETS[name], rules_of(SETS[name])
    for seed in range(8):
        transitions = layer_of(tags, seed).decoding()["transitions"]
        logits = np.random.default_rng(seed).normal(size=(4, len(tags)))
        scores = as_scores(logits)
        paths, values = all_sequences(np.log(scores), costs_of(tags, transitions))
        (path,) = best_sequences([scores], tags, transitions)
        assert path.tolist() == paths[values.argmax()].tolist()
        assert worth(scores, path, tags, transitions) == pytest.approx(values.max(), abs=1e-4)
        assert rules.first[path[0]] and rules.last[path[-1]]
        assert all(rules.following[pair] for pair in itertools.pairwise(path))
        wanted = np.zeros_like(scores)
        for place in range(4):
            np.add.at(wanted[place], paths[:, place], np.exp(values - log_sum(values)))
        (chances,) = tag_chances([scores], tags, transitions)
        np.testing.assert_allclose(chances, wanted, atol=1e-5)


def test_the_graph_gives_the_same_answers_and_probabilities():
    transitions = layer_of(BIO).decoding()["transitions"]
    lengths = np.array([5, 0, 1, 17, 9], np.int32)
    generator = np.random.default_rng(0)
    scores = [as_scores(4 * generator.normal(size=(length, 5))) for length in lengths]
    padded = np.full((5, 17, 5), np.nan, np.float32)
    for row, each in enumerate(scores):
        padded[row, : len(each)] = each

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, 5)), tf.TensorSpec((None,), tf.int32)],
        autograph=False,
    )
    def answer(scores, lengths):
        best = best_sequences_in_graph(scores, lengths, BIO, transitions)
        return best, tag_chances_in_graph(scores, lengths, BIO, transitions)

    paths, chances = answer(padded, lengths)
    wanted = zip(
        best_sequences(scores, BIO, transitions),
        tag_chances(scores, BIO, transitions),
        strict=True,
    )
    for row, (path, chance) in enumerate(wanted):
        assert paths[row, : len(path)].numpy().tolist() == path.tolist()
        np.testing.assert_allclose(chances[row, : len(path)], chance, atol=1e-5)
        assert not np.any(chances[row, len(path) :])
    assert answer(padded[:1, :0], lengths[1:2])[1].shape == (1, 0, 5)
    assert answer(padded[:0], lengths[:0])[1].shape[0] == 0


def test_without_transitions_it_is_as_before():
    nothing = {"first": [0] * 5, "following": [[0] * 5] * 5, "last": [0] * 5}
    scores = as_scores(np.random.default_rng(5).normal(size=(30, 5)))
    assert (
        best_sequences([scores], BIO, nothing)[0].tolist()
        == best_sequences([scores], BIO)[0].tolist()
    )


def test_a_window_that_begins_inside_an_entity_is_no_mistake():
    """Its first word may be an I-: what the cut hid is not held against it."""
    windows = SimpleNamespace(
        splits=np.array([0, 6]),
        starts=np.arange(0, 12, 2),
        ends=np.arange(1, 13, 2),
        begins=np.ones(6, bool),
        is_read=np.array([0, 1, 1, 1, 0, 0, 1, 1, 1, 0], bool),
        texts=np.array([0, 0]),
        tokens=SimpleNamespace(lengths=np.array([5, 5]), __len__=lambda: 2),
    )
    windows.tokens = type("Rows", (), {"lengths": np.array([5, 5]), "__len__": lambda self: 2})()
    codes, weights = tag.learned(windows, None, [[(4, 9, "L")]], ["P", "L"], crf=True)
    assert (codes > 0).tolist() == (weights > 0).tolist() == windows.is_read.tolist()
    loss = tag.loss(chain=layer_of(BIO))(
        codes.reshape(2, 5), np.zeros((2, 5, 5), np.float32), sample_weight=weights.reshape(2, 5)
    )
    assert 0 < float(loss) < 5


# --- a model ------------------------------------------------------------------------------

SHAPE = BertConfig(vocabulary_size=9, hidden_size=8, layers=1, heads=1, intermediate_size=8)


def test_mistakes_in_python():
    encoder = build_encoder(SHAPE)
    with pytest.raises(ValueError, match=r"names of the tags.*Received: their number, 5. Pass"):
        tag.build(encoder, tags=5, crf=True)
    assert tag.chain_of(tag.build(encoder, tags=BIO)) is None
    model = tag.build(encoder, tags=BIO, crf=True)
    assert [w.name for w in tag.chain_of(model).trainable_weights] == ["first", "following", "last"]
    again = keras.Model.from_config(model.get_config())
    assert tag.chain_of(again).tags == BIO
    for wrong in ({}, {"first": [0] * 5, "following": [0] * 5, "last": [0] * 5}, "x"):
        with pytest.raises(ConfigError, match="transitions: expected finite numbers for 5 tags"):
            costs_of(BIO, wrong)
    huge = {"first": [0] * 5, "following": np.full((5, 5), 1e30), "last": [0] * 5}
    (path,) = best_sequences([as_scores(np.eye(5)[[0, 2, 2]] * 9)], BIO, huge)
    assert BIO[path[1]] != "I-P" or BIO[path[0]] in ("B-P", "I-P")


def test_half_a_crf_is_refused():
    tensors = {"crf.transitions": np.zeros((5, 5)), "crf.start_transitions": np.zeros(4)}
    with pytest.raises(ConfigError, match=r"x: expected the CRF of 5 tags.*crf.start_tr\w+ \(4,\)"):
        read_transitions({**tensors}, BIO, name="x")
    kept = {"other": np.zeros(1)}
    assert read_transitions(kept, BIO, name="x") is None and [*kept] == ["other"]


def test_of_another_task_it_is_refused():
    config = {"run": "r", "data": {"train": "x.csv"}, "task": {"name": "classify", "crf": True}}
    with pytest.raises(ConfigError, match="crf: expected task.name tag, of which these are"):
        load_config(config, RunSettings)
    config["task"]["name"] = "tag"
    assert load_config(config, RunSettings).task.chosen() == {"name": "tag", "crf": True}
