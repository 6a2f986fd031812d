"""Programs without Python answer as the Keras model does.

`examples/answer.c`, which users copy, compiled against TensorFlow's pip wheel: the nearest there
is to TF Serving, whose loader and kernels the wheel's library holds; and against that of 2.12, the
oldest that we promise. And `examples/answer_ids.cpp`, compiled against LiteRT's.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import ai_edge_litert
import needs
import numpy as np
import pytest
import questions
import tensorflow as tf

from tfmodel.export import export_savedmodel, export_tflite
from tfmodel.tasks import TASKS

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
# Of tensorflow_text's 23 libraries, those that our graphs need; docs/export.md names them.
LIBRARIES = ["_fast_wordpiece_tokenizer.so", "_fast_bert_normalizer.so"]


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled program, the packages it is linked to, and how near it must come to Keras."""

    path: Path
    packages: Path
    limit: float

    def run(
        self, *arguments: object, rows: str, libraries: list[str] = LIBRARIES
    ) -> subprocess.CompletedProcess:
        operations = self.packages / "tensorflow_text/python/ops"
        command = [self.path, *arguments, *(operations / name for name in libraries)]
        return subprocess.run(
            [str(word) for word in command],
            input=rows,
            capture_output=True,
            text=True,
            env={"TF_CPP_MIN_LOG_LEVEL": "2"},
        )


def compile_answer(folder: Path, packages: Path, *, limit: float) -> Program:
    if shutil.which("gcc") is None:
        needs.give_up("there is no gcc")
    tensorflow = str(packages / "tensorflow")
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", str(EXAMPLES / "answer.c")]
    command += ["-I", f"{tensorflow}/include", "-L", tensorflow, f"-Wl,-rpath,{tensorflow}"]
    command += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    command += ["-o", str(folder / "answer")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Program(folder / "answer", packages, limit)


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Program:
    packages = Path(tf.sysconfig.get_lib()).parent
    return compile_answer(tmp_path_factory.mktemp("c"), packages, limit=1e-5)


@pytest.fixture(scope="module")
def older_program(tmp_path_factory) -> Program:
    """The same source with TensorFlow 2.12's headers and library."""
    (packages,) = Path(questions.older_python()).parents[1].glob("lib/python3*/site-packages")
    return compile_answer(tmp_path_factory.mktemp("c"), packages, limit=1e-4)


def cells(
    program: Program, folder: Path, name: str, inputs: dict, outputs: list[str], rows: int
) -> dict[str, list[str]]:
    """What the program prints, by output."""
    columns = [
        [" ".join(map(str, cell)) if isinstance(cell, list) else str(cell) for cell in column]
        for column in inputs.values()
    ]
    lines = "".join("\t".join(row) + "\n" for row in zip(*columns, strict=True))
    done = program.run(folder, name, ",".join(inputs), ",".join(outputs), rows, rows=lines)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [line.split("\t") for line in done.stdout.splitlines()]
    return {key: list(cells) for key, cells in zip(outputs, zip(*found, strict=True), strict=True)}


def ask(program: Program, folder: Path, name: str, question: questions.Question, rows: int) -> dict:
    """The program's answers, by output."""
    answers = cells(program, folder, name, question.inputs, [*question.outputs], rows)
    for output, wanted in question.outputs.items():
        if output != "label":
            numbers = [[float(number) for number in cell.split(" ")] for cell in answers[output]]
            answers[output] = numbers if wanted.ndim == 2 else [cell[0] for cell in numbers]
    return answers


@pytest.fixture(params=["tiny", "tiny_pairs"])
def subject(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("which", ["program", "older_program"])
def test_every_signature_answers_as_keras(which, subject, tmp_path, request):
    program = request.getfixturevalue(which)
    texts = [*questions.TEXTS, *subject.texts]
    pairs = subject.text_pairs and [*reversed(questions.TEXTS), *subject.text_pairs]
    folder = export_savedmodel(
        subject.model, subject.tokenizer, tmp_path / "served", **subject.described
    )
    asked = questions.questions(folder, questions.trained(subject), texts, pairs)
    assert set(asked) >= questions.SIGNATURES
    for name, question in asked.items():
        for rows in (1, 7, len(texts)) if name == "serving_default" else (len(texts),):
            answers = ask(program, folder, name, question, rows)
            questions.check(question, answers, limit=program.limit)
    assert len({*asked["serving_default"].outputs["label"]}) == 3


@pytest.mark.parametrize("which", ["program", "older_program"])
def test_real_weights_answer_as_keras(which, tmp_path, request):
    program = request.getfixturevalue(which)
    real = questions.real_classifier()
    folder = export_savedmodel(real.model, real.tokenizer, tmp_path / "served", **real.described)
    for name, question in questions.questions(folder, real, questions.TEXTS).items():
        answers = ask(program, folder, name, question, len(questions.TEXTS))
        questions.check(question, answers, limit=program.limit)


@pytest.fixture(scope="module")
def answered(exported_tasks) -> list[tuple]:
    """Task, signature, inputs, and the outputs that Python's TensorFlow gives."""
    assert {*exported_tasks} == {*TASKS} - {"embed_triplets", "embed_scored"}  # as embed
    found = []
    for task in exported_tasks.values():
        loaded = tf.saved_model.load(str(task.version))
        for name, signature in loaded.signatures.items():
            taken = signature.structured_input_signature[1]
            inputs = task.inputs(taken)
            given = {key: tf.constant(inputs[key], spec.dtype) for key, spec in taken.items()}
            outputs = {key: value.numpy() for key, value in signature(**given).items()}
            found.append((task, name, inputs, outputs))
    return found


@pytest.mark.parametrize("which", ["program", "older_program"])
def test_every_task_answers_as_in_python(which, answered, request):
    program = request.getfixturevalue(which)
    for task, name, inputs, wanted in answered:
        if which == "older_program" and name != "serving_default":
            continue  # which has every operation of the others
        rows = len(next(iter(inputs.values())))
        answers = cells(program, task.version, name, inputs, [*wanted], rows)
        for output, values in wanted.items():
            flat = values.reshape(rows, -1)
            where = f"{task.name}: {name}: {output}"
            if values.dtype == object:
                assert answers[output] == [b" ".join(row).decode() for row in flat], where
            else:
                numbers = [[float(word) for word in cell.split()] for cell in answers[output]]
                np.testing.assert_allclose(numbers, flat, atol=program.limit, err_msg=where)


@pytest.mark.parametrize("missing", LIBRARIES)
def test_the_guide_names_the_libraries_that_are_needed(program, exported, missing):
    libraries = [name for name in LIBRARIES if name != missing]
    arguments = (exported / "savedmodel/1", "serving_default", "text", "label", 1)
    done = program.run(*arguments, rows="good\n", libraries=libraries)
    assert done.returncode == 1 and "Op type not registered" in done.stderr
    guide = (EXAMPLES.parent / "docs/export.md").read_text("utf-8")
    assert all(name in guide for name in LIBRARIES)


def test_mistakes_end_with_a_sentence(program, exported):
    folder = exported / "savedmodel/1"
    for arguments, rows, words in [
        ((folder, "other", "text", "label", 1), "good\n", "other: the model has no signature"),
        ((folder, "serving_default", "words", "label", 1), "good\n", "words: the model has no"),
        ((folder / "x", "serving_default", "text", "label", 1), "good\n", "Could not find"),
        ((folder, "ids", "token_ids,segment_ids", "label", 1), "2 3\n", "too few inputs"),
        ((folder, "ids", "token_ids", "label", 2), "2 3\n2\n", "rows of different lengths"),
    ]:
        done = program.run(*arguments, rows=rows)
        assert done.returncode == 1 and words in done.stderr, done.stderr[-500:]


# --- LiteRT ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ids_program(tmp_path_factory) -> Path:
    if shutil.which("g++") is None:
        needs.give_up("there is no g++")
    if [int(part) for part in version("ai-edge-litert").split(".")[:2]] < [2, 2]:
        needs.give_up("LiteRT's C API before 2.2 is another one")
    compiled, litert = tmp_path_factory.mktemp("c") / "answer_ids", ai_edge_litert.__path__[0]
    command = ["g++", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror"]
    command += [str(EXAMPLES / "answer_ids.cpp"), "-o", str(compiled)]
    command += ["-L", litert, f"-Wl,-rpath,{litert}", "-lLiteRt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return compiled


@pytest.mark.parametrize("length", ["fixed", "dynamic"])
def test_token_ids_are_answered_as_keras_answers_texts(ids_program, tiny, tmp_path, length):
    path = export_tflite(
        tiny.model, tiny.tokenizer, tmp_path / "it.tflite", length=length, **tiny.described
    )
    texts = [*questions.TEXTS, *tiny.texts]
    rows = [tiny.tokenizer([text])["token_ids"].numpy()[0] for text in texts]
    assert len({len(row) for row in rows}) > 3
    done = subprocess.run(
        [str(ids_program), str(path)],
        input="".join(" ".join(map(str, row)) + "\n" for row in rows),
        capture_output=True,
        text=True,
        env={},
    )
    assert done.returncode == 0, done.stderr
    scores = [[float(number) for number in line.split()] for line in done.stdout.splitlines()]
    np.testing.assert_allclose(scores, tiny.reference.probabilities(texts), atol=1e-5)


@pytest.mark.parametrize("rows, words", [("2 7 3 \n\n", "without token ids"), ("4 " * 99, "many")])
def test_rows_that_cannot_be_answered_are_refused(ids_program, exported, rows, words):
    path = exported / "tflite/float32.tflite"
    done = subprocess.run([ids_program, path], input=rows, capture_output=True, text=True)
    assert done.returncode == 1 and words in done.stderr.splitlines()[-1]
