"""The task of answers in a text: its targets, its loss, the best span, its folder."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.data.dataset import Split
from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import span
from tfmodel.tasks.span_search import best_spans
from tfmodel.tokens import Tokenizer, Vocabulary
from tfmodel.tokens.question_windows import question_windows

WORDS = "the cat sat on a mat in rome with caf ##e 你 好 who where ? .".split()
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
CUT = {"max_length": 12, "doc_stride": 3, "max_query_length": 4}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(Vocabulary(PIECES), max_length=12)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    shape = BertConfig(
        vocabulary_size=len(PIECES), hidden_size=16, layers=1, heads=2, intermediate_size=32
    )
    return span.build(build_encoder(shape))


def split_of(*rows):
    questions, contexts, answers = zip(*rows, strict=True)
    labels = [
        {"answers": [] if a is None else [{"text": a, "start": c.index(a)}], "id": str(n)}
        for n, (c, a) in enumerate(zip(contexts, answers, strict=True))
    ]
    return Split(list(questions), list(contexts), labels, [f"a:{n}" for n in range(len(rows))])


def words_of(tokenizer, examples, window):
    """The pieces that a window's targets name."""
    first, last, length = examples.targets[window]
    ids = examples.rows.ids[examples.rows.splits[window] :][:length]
    return [tokenizer.vocabulary.pieces[i] for i in ids[first : last + 1]]


def test_each_window_learns_the_answer_or_none(tokenizer):
    context = "the cat sat on a mat in rome with a café"
    split = split_of(
        ("who ?", context, "the cat"), ("where ?", context, "rome"), ("who ?", "a cat", None)
    )
    examples = span.examples(tokenizer, split, **CUT)
    assert examples.of.tolist() == [0, 0, 0, 1, 1, 1, 2]
    found = [words_of(tokenizer, examples, window) for window in range(len(examples.of))]
    none = ["[CLS]"]
    assert found == [["the", "cat"], none, none, none, ["rome"], ["rome"], none]
    assert examples.targets[:, 2].tolist() == examples.rows.lengths.tolist()
    assert examples.counts == {
        "windows": 7,
        "windows_without_answer": 4,
        "questions_cut": 0,
        "answers_in_no_window": 0,
    }


def test_what_no_window_holds_is_counted(tokenizer):
    context = "the cat sat on a mat in rome with a cat"
    split = split_of(
        ("who", context, context[:-4]), ("who who who who who ?", "a cat", "cat"), ("?", " . ", " ")
    )
    examples = span.examples(tokenizer, split, **CUT)
    assert examples.counts["answers_in_no_window"] == 2
    assert examples.counts["questions_cut"] == 1
    assert words_of(tokenizer, examples, list(examples.of).index(1)) == ["cat"]


def test_part_of_a_word_is_answered_by_its_piece(tokenizer):
    examples = span.examples(
        tokenizer,
        split_of(
            ("who", "a café . 你好", "café"),
        ),
        **CUT,
    )
    assert words_of(tokenizer, examples, 0) == ["caf", "##e"]
    examples = span.examples(
        tokenizer,
        split_of(
            ("who", "a café . 你好", "好"),
        ),
        **CUT,
    )
    assert words_of(tokenizer, examples, 0) == ["好"]
    examples = span.examples(
        tokenizer,
        split_of(
            ("who", "the cat", "at"),
        ),
        **CUT,
    )
    assert words_of(tokenizer, examples, 0) == ["cat"]


@pytest.mark.parametrize("length", [7, 4])
def test_windows_without_room_are_refused(tokenizer, length):
    with pytest.raises(ConfigError, match=r"at least task.max_query_length \+ 4, for a question"):
        span.examples(tokenizer, split_of(("a", "b", None)), **{**CUT, "max_length": length})


def test_the_loss_is_cross_entropy_and_padding_takes_no_part():
    logits = np.random.default_rng(0).normal(size=(2, 5, 2)).astype(np.float32)
    targets = np.array([[1, 3, 5], [0, 0, 3]], np.int32)
    wanted = []
    for row, (first, last, length) in zip(logits, targets, strict=True):
        logs = row[:length] - np.log(np.exp(row[:length]).sum(axis=0))
        wanted.append(-(logs[first, 0] + logs[last, 1]) / 2)
    assert float(span.loss()(targets, logits)) == pytest.approx(np.mean(wanted), rel=1e-5)
    padded = np.concatenate([logits, np.full((2, 4, 2), 50, np.float32)], axis=1)
    assert float(span.loss()(targets, padded)) == pytest.approx(np.mean(wanted), rel=1e-5)


def slow_search(windows, logits, row, longest):
    """All spans of all windows, one by one."""
    bounds = np.cumsum([0, *windows.lengths])
    best, none = (-np.inf, 0, 0, 0.0), np.inf
    for window in np.flatnonzero(windows.rows == row):
        here = slice(bounds[window], bounds[window + 1])
        starts, ends, first = windows.starts[here], windows.ends[here], windows.best[here]
        scores = logits[window][: windows.lengths[window]].astype(np.float64)
        none = min(none, scores[0].sum())
        shown = np.exp(scores) * ((starts >= 0) | (np.arange(len(starts)) == 0))[:, None]
        shown /= shown.sum(axis=0)
        for i, j in itertools.product(range(len(starts)), repeat=2):
            if starts[i] >= 0 and starts[j] >= 0 and first[i] and i <= j < i + longest:
                total = scores[i, 0] + scores[j, 1]
                if total > best[0]:
                    best = (total, starts[i], ends[j], shown[i, 0] * shown[j, 1])
    return (*best[1:], best[0] - none)


@pytest.mark.parametrize("longest", [1, 3, 30])
def test_the_best_span_is_the_best_of_all(tokenizer, longest):
    generator = np.random.default_rng(longest)
    contexts = [" ".join(generator.choice(WORDS[:8], count)) for count in (1, 9, 30)]
    windows = question_windows(tokenizer, ["who ?", "where", ""], contexts, **CUT)
    size = int(windows.lengths.numpy().max())
    logits = generator.normal(size=(len(windows.lengths), size, 2)).astype(np.float32) * 3
    found = best_spans(logits, windows, rows=3, max_answer_length=longest).numpy()
    plain = type(windows)(*(each.numpy() for each in windows))
    for row in range(3):
        np.testing.assert_allclose(
            found[row], slow_search(plain, logits, row, longest), rtol=1e-4, atol=1e-5
        )


def test_a_context_without_words_has_no_answer(tokenizer):
    windows = question_windows(tokenizer, ["who", "who"], ["", " \n"], **CUT)
    logits = tf.ones((2, int(tf.reduce_max(windows.lengths)), 2))
    found = best_spans(logits, windows, rows=2, max_answer_length=5).numpy()
    assert found[:, :3].tolist() == [[0, 0, 0]] * 2 and (found[:, 3] < -1000).all()
    answers = span.decode(found, span.output_labels([]), text_pairs=["", " \n"])
    assert answers == [{"answer": "", "start": 0, "end": 0, "score": 1.0}] * 2


def test_answers_are_substrings_by_characters():
    context = "Zoë 😀 lives in 北京！"
    values = np.array([[0, 3, 0.9, 5], [4, 5, 0.8, 5], [15, 17, 0.7, -2]], np.float32)
    found = span.decode(values, [], text_pairs=[context] * 3)
    assert [answer["answer"] for answer in found] == ["Zoë", "😀", "北京"]
    for answer in found:
        assert context[answer["start"] : answer["end"]] == answer["answer"]
    served = span.served(tf.constant(values), [], contexts=tf.constant([context] * 3))
    assert [each.decode() for each in served["answer"].numpy()] == ["Zoë", "😀", "北京"]
    # The third is less likely than no answer.
    found = span.decode(values, [], text_pairs=[context] * 3, null_threshold=1.0)
    assert found[2] == {"answer": "", "start": 0, "end": 0, "score": pytest.approx(0.3)}
    served = span.served(
        tf.constant(values), [], contexts=tf.constant([context] * 3), null_threshold=1.0
    )
    assert served["answer"].numpy()[2] == b"" and served["end"].numpy().tolist() == [3, 5, 0]
    np.testing.assert_allclose(served["score"], [0.9, 0.8, 0.3], rtol=1e-5)


def test_the_threshold_is_for_questions_without_answers_alone():
    labels = [{"answers": [{"text": "rome", "start": 3}], "id": "1"}, {"answers": [], "id": "2"}]
    questions = span.targets(labels, text_pairs=["in rome", "in rome"])
    values = np.array([[3, 7, 0.9, 4], [3, 7, 0.5, -3]], np.float32)
    assert span.tuned(questions[:1], values[:1]) == {}
    assert span.tuned(questions, values) == {"null_threshold": pytest.approx(-0.5)}
    assert span.dev_figures(questions, values) == {"f1": 1.0, "exact_match": 1.0}
    figures = span.evaluate(questions, values, [])
    assert (figures["exact_match"], figures["no_answer_accuracy"]) == (0.5, 0)
    figures = span.evaluate(questions, values, [], null_threshold=-0.5, doc_stride=3)
    assert (figures["exact_match"], figures["unanswerable"]) == (1, 1)


def test_a_folder_is_read_back(model, tokenizer, tmp_path):
    decoding = {"doc_stride": 3, "max_query_length": 4, "max_answer_length": 5}
    span.save(model, tmp_path / "mine", tokenizer=tokenizer, max_length=12, decoding=decoding)
    loaded = span.load(tmp_path / "mine")
    assert (loaded.task, loaded.max_length, loaded.has_pairs) == ("span", 12, True)
    assert loaded.decoding == decoding and loaded.labels == ["start", "end"]
    batch = tokenizer(["who ?"], ["the cat sat"])
    np.testing.assert_allclose(loaded.model(batch), model(batch), atol=1e-6)


def test_an_encoder_without_hidden_states_is_refused():
    shape = BertConfig(vocabulary_size=9, hidden_size=16, layers=1, heads=2, intermediate_size=32)
    with pytest.raises(ValueError, match="sequence=True"):
        span.build(build_encoder(shape, sequence=False))
