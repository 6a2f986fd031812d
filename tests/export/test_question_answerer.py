"""Answers in a text, asked of every artifact: strings, long contexts, phones."""

import itertools
import json

import keras
import needs
import numpy as np
import pytest
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.evaluate.answering import Question
from tfmodel.export import check_parity, export_savedmodel, export_tflite, lint, load, predictor_of
from tfmodel.export.parity import ParityError
from tfmodel.export.parity.answer_verdicts import compare_answers
from tfmodel.export.parity.measure import run_client
from tfmodel.export.spans import Spans
from tfmodel.export.tflite.metadata import LOGIT_NAMES, read_associated_files
from tfmodel.export.tflite.phone_runtimes import choose_runtime
from tfmodel.export.trained import Trained
from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import span
from tfmodel.tokens import Tokenizer, Vocabulary

WORDS = "the cat sat on a mat in rome with caf ##e 北 京 who where ? .".split()
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
DECODING = {"doc_stride": 5, "max_query_length": 4, "max_answer_length": 3, "null_threshold": 2.0}
LONG = " ".join(itertools.islice(itertools.cycle(WORDS[:8]), 250))
QUESTIONS = ["who ?", "where", "", "who who who who who ?", "🙂 who", "who"]
CONTEXTS = ["the café in 北京 . 🙂 a cat", LONG, "a mat", "rome", "", " \n"]


def build(positions: int = 32, seed: int = 1):
    keras.utils.set_random_seed(seed)
    shape = BertConfig(
        vocabulary_size=len(PIECES),
        hidden_size=32,
        layers=2,
        heads=2,
        intermediate_size=48,
        max_positions=positions,
    )
    model = span.build(build_encoder(shape))
    model.get_layer("head").kernel.assign(keras.random.normal((32, 2), seed=seed))
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(Vocabulary(PIECES), max_length=16)


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def described():
    return {
        "labels": ["start", "end"],
        "max_length": 16,
        "has_pairs": True,
        "task": "span",
        "decoding": DECODING,
    }


@pytest.fixture(scope="module")
def reference(model, tokenizer, described):
    return predictor_of(model, tokenizer, **described)


@pytest.fixture(scope="module")
def exported(model, tokenizer, described, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    export_savedmodel(model, tokenizer, folder / "savedmodel", **described)
    export_tflite(model, tokenizer, folder / "phone.tflite", **described)
    return folder


def test_answers_are_substrings_of_the_users_own_texts(reference):
    answers = reference.predict(QUESTIONS, CONTEXTS)
    for answer, question, context in zip(answers, QUESTIONS, CONTEXTS, strict=True):
        assert [*answer] == ["text", "text_pair", "answer", "start", "end", "score"]
        assert (answer["text"], answer["text_pair"]) == (question, context)
        assert context[answer["start"] : answer["end"]] == answer["answer"]
        assert 0 <= answer["score"] <= 1
    assert {"", "a mat"} > {answers[4]["answer"]} and answers[5]["answer"] == ""
    assert any(answer["answer"] for answer in answers)
    assert reference.predict([], []) == [] and reference.values([], []).shape == (0, 4)


def test_many_windows_are_answered_as_one_by_one(reference, model, tokenizer):
    spans = Spans(tokenizer, max_length=16, decoding=DECODING)
    windows = spans.windows(["who ?"] * 2, [LONG, LONG[4:]])
    assert tf.size(windows.lengths) > 64  # more than go through the model at once
    logits = np.concatenate(
        [
            model({name: values[row : row + 1] for name, values in windows.batch().items()}).numpy()
            for row in range(len(windows.lengths))
        ]
    )
    wanted = spans.best(logits, windows)
    found = reference.values(["who ?"] * 2, [LONG, LONG[4:]])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_savedmodel_answers_strings(exported, reference):
    loaded = tf.saved_model.load(str(exported / "savedmodel/1"))
    answer = loaded.signatures["serving_default"]
    given = answer(text=tf.constant(QUESTIONS), text_pair=tf.constant(CONTEXTS))
    assert {*given} == {"answer", "start", "end", "score", "span"}
    wanted = reference.predict(QUESTIONS, CONTEXTS)
    assert [each.decode() for each in given["answer"].numpy()] == [e["answer"] for e in wanted]
    for name in ("start", "end", "score"):
        np.testing.assert_allclose(given[name], [each[name] for each in wanted], atol=1e-5)
    nothing = answer(text=tf.constant([], tf.string), text_pair=tf.constant([], tf.string))
    assert nothing["answer"].shape == (0,) and nothing["span"].shape == (0, 4)
    with pytest.raises(tf.errors.InvalidArgumentError):
        answer(text=tf.constant(["a", "b"]), text_pair=tf.constant(["a"]))
    assert load(exported / "savedmodel").predict(QUESTIONS, CONTEXTS)[0] == wanted[0] | {
        "score": pytest.approx(wanted[0]["score"], abs=1e-5)
    }


def test_the_savedmodel_takes_ids(exported, model, tokenizer):
    batch = tokenizer(QUESTIONS[:3], CONTEXTS[:3], max_length=16)
    loaded = tf.saved_model.load(str(exported / "savedmodel/1"))
    given = loaded.signatures["ids"](**batch)
    logits = model(batch).numpy()
    np.testing.assert_allclose(given["start_logits"], logits[..., 0], atol=1e-5)
    np.testing.assert_allclose(given["end_logits"], logits[..., 1], atol=1e-5)


def test_tensorflow_serving_has_all_of_its_operations(exported):
    report = lint(exported / "savedmodel/1")
    assert not report.problems
    card = json.loads((exported / "savedmodel/1/card.json").read_text())
    assert card["model"]["task"] == "span"
    readme = (exported / "savedmodel/1/README.md").read_text()
    assert "question-answering" in readme and "a span of the context" in readme


def test_a_file_for_phones_answers_windows_cut_here(exported, reference):
    file = exported / "phone.tflite"
    predictor = load(file)
    np.testing.assert_allclose(
        predictor.values(QUESTIONS, CONTEXTS), reference.values(QUESTIONS, CONTEXTS), atol=1e-4
    )
    assert predictor.predict(["who ?"], [LONG])[0]["answer"] in LONG
    assert {"vocab.txt", "tfmodel.json"} <= {*read_associated_files(file)}
    from tfmodel.export.parity.description import read_tensors

    tensors = read_tensors(file)
    assert sorted(tensors.outputs) == ["end_logits", "start_logits"]
    assert tensors.outputs == tensors.described_outputs
    assert tensors.inputs == tensors.described_inputs


@pytest.mark.slow
def test_the_gate_holds_both_to_the_model(exported, reference, tokenizer, described, tmp_path):
    texts = (QUESTIONS * 3, CONTEXTS * 3)
    artifacts = {"saved": exported / "savedmodel/1", "phone": exported / "phone.tflite"}
    parity = check_parity(reference, artifacts, *texts, measure=False)
    assert parity["passed"]
    assert parity["artifacts"]["phone"]["answer_agreement"] == 1
    wrong = export_savedmodel(build(seed=2), tokenizer, tmp_path / "wrong", **described)
    with pytest.raises(ParityError, match="another answer on"):
        check_parity(reference, {"x": wrong}, *texts, measure=False)


def test_verdicts():
    wanted = np.array([[0, 3, 0.9, 4], [2, 5, 0.6, 1], [1, 2, 0.5, -3]], np.float32)
    questions = [Question("abcdef", (answer,)) for answer in ("abc", "cde", "b")]

    def verdict(given, precision="int8", targets=questions, **more):
        return compare_answers(given, wanted, targets, precision=precision, max_drop=0.01, **more)

    assert verdict(wanted, "float32")["failures"] == []
    assert verdict(wanted)["f1"] == 1 and verdict(wanted)["answer_agreement"] == 1
    near = wanted + np.array([0, 0, 5e-5, 1e-4], np.float32)
    assert verdict(near, "float32")["failures"] == []
    off = wanted + np.array([0, 0, 5e-3, 0], np.float32)
    assert "a score is off by 0.005" in verdict(off, "float32")["failures"][0]
    moved = wanted.copy()
    moved[0, :2] = 3, 6
    assert verdict(moved, "float32")["failures"] == []  # a tie: the margin is the same
    moved[0, 3] = 3
    assert "another answer on 1 of 3" in verdict(moved, "float32")["failures"][0]
    assert verdict(moved)["failures"] == []  # one row is never proof
    moved[1] = 0, 1, 0.6, 1
    assert "F1 0.333, the Keras model's is 1.000" in verdict(moved)["failures"][0]
    assert "another answer on 2 of 3" in verdict(moved, targets=None)["failures"][0]
    moved[2, :2] = 4, 5
    assert "another answer on 3 of 3" in verdict(moved)["failures"][0]
    # Of a row that is not answered, the span is nobody's matter.
    moved = wanted.copy()
    moved[2, :2] = 4, 5
    assert verdict(moved, null_threshold=0.0)["answers_changed"] == 0
    assert verdict(wanted[:, :2])["failures"] == ["2 numbers a row, expected 4"]
    assert verdict(np.full_like(wanted, np.nan))["failures"] == ["its answers are not numbers"]


def test_runtimes_of_phones(model, tokenizer):
    def choose(wish, length):
        return choose_runtime(
            wish, Trained(model, tokenizer, ["start", "end"], length, True, task="span")
        )

    assert choose("auto", 384) == choose("task-library-0.4", 384) == "task-library-0.4"
    assert choose("auto", 256) == choose("litert", 256) == "litert"
    for wish, length in (("mediapipe", 384), ("task-library-0.4", 256)):
        with pytest.raises(ConfigError, match=f"export.runtime={wish}: expected litert, or"):
            choose(wish, length)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["float32", "float16", "int8"])
def test_the_task_library_answers_as_the_file_does_here(variant, tmp_path):
    """BertQuestionAnswerer: the 5 best starts by the 5 best ends, in words between blanks."""
    packages = ["tflite-support==0.4.4", "numpy<2", "protobuf<4"]
    python = needs.environment("task-library-0.4", *packages)
    tokenizer = Tokenizer(Vocabulary(PIECES), max_length=384)
    decoding = {"max_query_length": 64, "max_answer_length": 32}
    file = export_tflite(
        build(positions=384),
        tokenizer,
        tmp_path / "phone.tflite",
        labels=["start", "end"],
        max_length=384,
        has_pairs=True,
        task="span",
        decoding=decoding,
        quantization=variant,
        runtime="task-library-0.4",
    )
    generator = np.random.default_rng(0)
    contexts = [" ".join(generator.choice(WORDS[:8], count)) for count in (3, 20, 60, 300)]
    rows = [["who ?", context] for context in contexts]
    request = {"path": str(file), "rows": rows, "output": list(LOGIT_NAMES)}
    told = run_client("ask_task_library", request, python=python, timeout_seconds=500)
    assert not told.errors, told.errors
    from tfmodel.export.spans import filled
    from tfmodel.export.tflite.litert import LiteRT

    run, spans = LiteRT(file), Spans(tokenizer, max_length=384, decoding=decoding)
    answered = 0
    for (question, context), answers in zip(rows, told.answers, strict=True):
        windows = spans.windows([question], [context])
        batch = {name: values.numpy() for name, values in windows.batch().items()}
        (logits,) = run(filled(batch, 384, 0))
        starts = windows.starts.numpy()
        first, last = (np.argsort(-logits[:, side], kind="stable")[:5] for side in range(2))
        wanted = {
            (i, j): logits[i, 0] + logits[j, 1]
            for i, j in itertools.product(first.tolist(), last.tolist())
            if max(i, j) < len(starts) and min(starts[i], starts[j]) >= 0 and 0 <= j - i < 32
        }
        given = {(start, end): logit for _, start, end, logit in answers}
        assert {*given} <= {*wanted} and len(given) == min(5, len(wanted))
        for place, logit in given.items():
            assert logit == pytest.approx(wanted[place], abs=2e-3)
        for text, start, end, _ in answers:
            assert text == context[starts[start] : windows.ends.numpy()[end]]
            answered += 1
    assert answered
