"""What to ask every signature of a SavedModel, and what the Keras model answers to it.

For runtimes outside this process: signatures are read from the file, so that a new one is asked
too, or fails for want of a question.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path

import keras
import needs
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfmodel.export import savedmodel
from tfmodel.export.settings import ExportSettings
from tfmodel.export.trained import Trained
from tfmodel.model import load_encoder
from tfmodel.tasks import classify
from tfmodel.tokens import Tokenizer

TEXTS = [
    "the movie was good",
    "好电影, 很坏 zoo",
    "",
    "   ",
    "very bad movie " * 3000,
    "café \U0001f600 KITE \U0001f468\u200d\U0001f469\u200d\U0001f467 \u0130",
    "good",
]


_OLDER = ["tensorflow==2.12.*", "tensorflow-text==2.12.1", "tensorflow-serving-api==2.12.*"]


def older_python() -> str:
    """An interpreter with TensorFlow 2.12 and the TF Text that TF Serving 2.12 links."""
    if sys.version_info >= (3, 12):
        needs.give_up("tensorflow 2.12 has wheels for Python 3.8 to 3.11 alone")
    return needs.environment("tensorflow-2.12", *_OLDER)


SIGNATURES = {"serving_default", "ids", "max_length", "vector"}
"""Those that must be there; whatever else is there is asked, too."""


@dataclasses.dataclass(frozen=True)
class Question:
    """Columns of n rows to give a signature, and those it must give back."""

    inputs: dict[str, list]
    outputs: dict[str, np.ndarray]


def trained(tiny) -> Trained:
    """What exports start from, of the fixtures' classifiers."""
    return Trained(tiny.model, tiny.tokenizer, **tiny.described)


def real_classifier() -> Trained:
    """MiniLM with a head that nothing taught, scaled until it tells texts apart."""
    source = needs.fetched(needs.MINILM)
    keras.utils.set_random_seed(0)
    model = classify.build(load_encoder(source, sequence=False), classes=3)
    tokenizer = Tokenizer.from_folder(source, max_length=128)
    head, logits = model.get_layer("head"), model(tokenizer(TEXTS), training=False).numpy()
    scale = 2 / logits.std(axis=0)
    head.kernel.assign(head.kernel.numpy() * scale)
    head.bias.assign((head.bias.numpy() - logits.mean(axis=0)) * scale)
    return Trained(model, tokenizer, labels=["a", "b", "c"], max_length=128)


def write_savedmodels(subject: Trained, aside: Path) -> dict[str, Path]:
    """SavedModels of every precision; name to version folder."""
    settings = ExportSettings(savedmodel_precision=["float32", "mixed_bfloat16"])
    return savedmodel.write_artifacts(settings, subject, aside, lambda _: None)


def questions(
    folder: Path, subject: Trained, texts: list[str], text_pairs: list[str] | None = None
) -> dict[str, Question]:
    """A question for each signature of a version folder."""
    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    signatures = model.meta_graphs[0].signature_def
    limits = itertools.islice(itertools.cycle((5, 9, subject.max_length)), len(texts))
    batch = subject.tokenizer(texts, text_pairs, max_length=subject.max_length)
    columns = {"text": texts, "text_pair": text_pairs, "max_length": list(limits)}
    columns |= {name: values.numpy().tolist() for name, values in batch.items()}
    asked = {}
    for name, signature in signatures.items():
        if not name.startswith("__"):
            inputs = {key: columns[key] for key in signature.inputs}
            answers = _answers(subject, texts, text_pairs, inputs.get("max_length"))
            outputs = {key: answers[key] for key in signature.outputs}
            asked[name] = Question(inputs, outputs)
    return asked


def _answers(
    subject: Trained, texts: list[str], text_pairs: list[str] | None, limits: list[int] | None
) -> dict[str, np.ndarray]:
    """All that the Keras model has to say of texts, each cut to its limit."""
    parts = []
    for limit in sorted({*(limits or [subject.max_length])}):
        batch = subject.tokenizer(texts, text_pairs, max_length=limit)
        scores = tf.nn.softmax(subject.model(batch, training=False)).numpy()
        vector = subject.model.get_layer("encoder")(batch, training=False)["pooled"].numpy()
        rows = np.equal(limits, limit) if limits else np.full(len(texts), True)
        parts.append((rows, scores, vector))
    scores = sum(rows[:, np.newaxis] * scores for rows, scores, _ in parts)
    return {
        "scores": scores,
        "score": scores.max(axis=1),
        "label": np.array([subject.labels[best] for best in scores.argmax(axis=1)]),
        "vector": sum(rows[:, np.newaxis] * vector for rows, _, vector in parts),
    }


def check(question: Question, answers: dict[str, list], *, limit: float) -> None:
    """Compare what a runtime answered; labels where nothing is a near tie."""
    assert set(answers) == set(question.outputs)
    clear = np.full(len(next(iter(answers.values()))), True)
    if "scores" in answers:
        best = np.sort(question.outputs["scores"], axis=1)
        clear = best[:, -1] - best[:, -2] > 2 * limit
    for name, wanted in question.outputs.items():
        if name == "label":
            assert np.array(answers[name])[clear].tolist() == wanted[clear].tolist()
        else:
            np.testing.assert_allclose(np.array(answers[name]), wanted, atol=limit, err_msg=name)
