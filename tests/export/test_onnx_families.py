"""Classifiers on other encoders than BERT in ONNX, from few labels too: heads on a gap, on a mean.

Run: pytest -m slow tests/export/test_onnx_families.py
"""

import keras
import needs
import numpy as np
import pytest
import small_families

from tfmodel.export import load, predictor_of
from tfmodel.export.onnx import export_onnx, token_skew
from tfmodel.model import build_encoder
from tfmodel.tasks import classify
from tfmodel.tasks.readings import AtGap, Pooled
from tfmodel.tokens.byte_pairs import BytePairTokenizer
from tfmodel.tokens.prompts import PromptTokenizer

pytestmark = pytest.mark.slow

TEXTS = ["the storm was on monday", "", " bank", "<mask> [MASK] <s>rain", "Café 😀 " * 20, "a"]
PAIRS = ["rain", "the bank said", "", "match after match " * 9, "coach", "b"]
TEMPLATE = "it was on [MASK]. {text}"
CASES = {
    # How texts are read whose template gives them a blank, and ALBERT's layers, which are one.
    "gap": ("roberta", TEMPLATE, False),
    "gap of pairs": ("roberta", "{text}? [MASK], {text_pair}", True),
    "gap of unigrams": ("albert", TEMPLATE, False),
    "mean": ("xlm-roberta", "", False),
    "pooled": ("albert", "", True),
}


@pytest.mark.parametrize("case", CASES)
def test_it_answers_as_the_model(case, tmp_path):
    for package in ("onnx", "onnxruntime", "tokenizers"):
        needs.package(package)
    family, template, has_pairs = CASES[case]
    keras.utils.set_random_seed(0)
    tokenizer = small_families.tokenizer_of(family)
    if family == "roberta":
        tokenizer = BytePairTokenizer(tokenizer.vocabulary, tokenizer.merges, max_length=48)
    reading = Pooled("mean", True) if case == "mean" else None
    if template:
        tokenizer = PromptTokenizer(tokenizer, template)
        reading = AtGap(tokenizer.vocabulary.mask_id, template)
    shape = small_families.shape_of(family, len(tokenizer.vocabulary))
    model = classify.build(build_encoder(shape), classes=3, reading=reading)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign_add(random.normal(size=weight.shape, scale=0.2).astype(np.float32))
    described = {"labels": ["a", "b", "c"], "max_length": 24, "has_pairs": has_pairs}
    folder = export_onnx(model, tokenizer, tmp_path / "onnx", **described)
    rows = (TEXTS, PAIRS) if has_pairs else (TEXTS,)
    wanted = predictor_of(model, tokenizer, **described).probabilities(*rows)
    assert wanted.std(axis=0).max() > 1e-3
    np.testing.assert_allclose(load(folder).probabilities(*rows), wanted, atol=1e-5)
    assert token_skew(folder, *rows) == 0
