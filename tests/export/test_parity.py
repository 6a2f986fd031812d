"""The gate: what must pass, and every sabotage it must catch."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tfmodel.config import ConfigError
from tfmodel.export import (
    check_parity,
    export_savedmodel,
    export_tflite,
    export_tflite_variants,
)
from tfmodel.export.manifest import Manifest
from tfmodel.export.parity import ParityError
from tfmodel.export.predictor import Predictor
from tfmodel.tokens import Tokenizer, Vocabulary


def _artifacts(folder: Path) -> dict[str, Path]:
    return {
        "savedmodel": folder / "savedmodel/1",
        **{path.stem: path for path in sorted((folder / "tflite").iterdir())},
    }


def test_honest_artifacts_pass_with_every_figure(exported, tiny):
    right = tiny.scores.argmax(axis=1)
    parity = check_parity(
        tiny.reference, _artifacts(exported), tiny.texts, targets=right, max_drop=0.1
    )
    assert parity["passed"] and parity["rows"] == 60
    assert parity["reference"]["accuracy"] == 1.0
    assert list(parity["artifacts"]) == ["savedmodel", "float16", "float32", "int8"]
    for name, figures in parity["artifacts"].items():
        assert figures["passed"] and figures["failures"] == []
        assert figures["label_agreement"] >= 0.9
        assert figures["accuracy"] == pytest.approx(1 - figures["accuracy_drop"])
        assert figures["bytes"] > 10_000
        assert figures["load_seconds"] > 0
        assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99"]
        assert figures["precision"] == ("float32" if name == "savedmodel" else name)
    assert parity["artifacts"]["savedmodel"]["largest_score_difference"] < 1e-5
    assert parity["artifacts"]["int8"]["largest_score_difference"] > 1e-4
    json.dumps(parity, allow_nan=False)


def test_pairs_pass(tiny_pairs, tmp_path):
    path = export_tflite(
        tiny_pairs.model, tiny_pairs.tokenizer, tmp_path / "a.tflite", **tiny_pairs.described
    )
    parity = check_parity(
        tiny_pairs.reference, {"phone": path}, tiny_pairs.texts, tiny_pairs.text_pairs
    )
    assert parity["passed"]
    assert parity["artifacts"]["phone"]["accuracy"] is None


# --- sabotage: each spoils what the artifact is made of, and the Keras model stays honest ------


def _zero_weights(tiny):
    # Not all of them: a TFLite file of nothing but zeros is already refused for its size.
    for layer in (
        tiny.model.get_layer("head"),
        tiny.model.get_layer("encoder").get_layer("pooler"),
    ):
        layer.kernel.assign(layer.kernel * 0)
    return tiny


def _permute_classes(tiny):
    head = tiny.model.get_layer("head")
    head.kernel.assign(np.roll(head.kernel.numpy(), 1, axis=1))
    head.bias.assign(np.roll(head.bias.numpy(), 1))
    return tiny


def _swap_vocabulary(tiny):
    pieces = tiny.tokenizer.vocabulary.pieces
    other = Tokenizer(Vocabulary(pieces[:5] + pieces[:4:-1]), max_length=16)
    return dataclasses.replace(tiny, tokenizer=other)


def _flip_lower_casing(tiny):
    other = Tokenizer(tiny.tokenizer.vocabulary, lowercase=False, max_length=16)
    return dataclasses.replace(tiny, tokenizer=other)


@pytest.fixture(
    scope="module", params=[_zero_weights, _permute_classes, _swap_vocabulary, _flip_lower_casing]
)
def spoiled(request, tiny, another, tmp_path_factory) -> dict[str, Path]:
    """Artifacts by kind, all spoiled in one way."""
    folder = tmp_path_factory.mktemp("spoiled")
    of_weights = request.param in (_zero_weights, _permute_classes)
    made = request.param(another() if of_weights else tiny)
    described = (made.model, made.tokenizer)
    saved = export_savedmodel(*described, folder / "savedmodel", **tiny.described)
    variants = {"variants": ["float32", "int8"], **tiny.described}
    return {
        "savedmodel": saved,
        **export_tflite_variants(*described, folder / "tflite", **variants),
    }


@pytest.mark.parametrize("kind", ["savedmodel", "float32", "int8"])
def test_sabotage_is_caught(tiny, spoiled, kind):
    path = spoiled[kind]
    texts = [text.upper() for text in tiny.texts]
    right = tiny.reference.probabilities(texts).argmax(axis=1)
    for targets in (right, None):
        with pytest.raises(ParityError, match=f"1 of 1 artifacts.*\n  {kind}: ") as caught:
            check_parity(tiny.reference, {kind: path}, texts, targets=targets, max_drop=0.05)
        figures = caught.value.parity["artifacts"][kind]
        assert not figures["passed"] and figures["label_agreement"] < 0.9


def test_labels_in_another_order_are_caught(exported, tiny, tmp_path):
    folder = tmp_path / "1"
    shutil.copytree(exported / "savedmodel/1", folder)
    manifest = folder / "assets/tfmodel.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(values | {"labels": values["labels"][::-1]}))
    with pytest.raises(ParityError, match=r"its labels are \['good', 'so-so', 'bad'\]"):
        check_parity(tiny.reference, {"a": folder}, tiny.texts)


def test_a_truncated_file_is_caught_and_the_others_are_still_judged(exported, tiny, tmp_path):
    cut = tmp_path / "cut.tflite"
    cut.write_bytes((exported / "tflite/float32.tflite").read_bytes()[:-100])
    with pytest.raises(ParityError, match="1 of 2 artifacts.*\n  cut: it cannot be loaded") as e:
        check_parity(tiny.reference, {"cut": cut, "a": exported / "savedmodel"}, tiny.texts)
    assert e.value.parity["artifacts"]["a"]["passed"]


# --- where the line runs --------------------------------------------------------------------


@pytest.fixture
def pretend(monkeypatch):
    """Artifacts that answer with given scores, under any precision."""
    scores_of = {}

    def make(scores, precision="float32", kind="model"):
        manifest = Manifest(labels=("no", "yes"), max_length=16, precision=precision)
        scores = np.asarray(scores, np.float32)

        def answer(texts, text_pairs):
            return scores[[int(text) for text in texts]]

        return Predictor(answer, manifest, kind=kind, where="pretend")

    def add(name, scores, precision, kind="model"):
        scores_of[name] = make(scores, precision, kind)

    monkeypatch.setattr(
        "tfmodel.export.parity.gate.load", lambda path, threads=None: scores_of[Path(path).name]
    )
    return make, add


def _certain(labels):
    """Scores (n, 2) that give these labels, 0.9 against 0.1."""
    return np.where(np.arange(2) == np.asarray(labels)[:, np.newaxis], 0.9, 0.1)


def _check(pretend, tmp_path, wanted, given, precision, **kwargs):
    make, add = pretend
    add("x", given, precision)
    (tmp_path / "x").write_text("")
    texts = [str(row) for row in range(len(wanted))]
    return check_parity(make(wanted), {"x": tmp_path / "x"}, texts, **kwargs)


def test_float32_may_be_off_by_a_ten_thousandth(pretend, tmp_path):
    wanted = _certain([0, 1] * 20)
    _check(pretend, tmp_path, wanted, wanted + 0.9e-4, "float32")
    with pytest.raises(ParityError, match=r"off by 0.00012 \(limit 1e-04\)"):
        _check(pretend, tmp_path, wanted, wanted + 1.2e-4, "float32")


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_scores_that_are_not_numbers_fail(pretend, tmp_path, precision):
    wanted = _certain([0, 1] * 20)
    given = wanted.copy()
    given[3] = np.nan
    with pytest.raises(ParityError, match="not numbers"):
        _check(pretend, tmp_path, wanted, given, precision)


@pytest.mark.parametrize(("lost", "passes"), [(2, True), (3, False)])
def test_reduced_precision_may_lose_a_point_of_accuracy(pretend, tmp_path, lost, passes):
    right = np.array([0, 1] * 100)
    given = right.copy()
    given[:lost] = 1 - given[:lost]
    arguments = (pretend, tmp_path, _certain(right), _certain(given), "int8")
    if passes:
        assert _check(*arguments, targets=right)["passed"]
    else:
        with pytest.raises(ParityError, match="3 of 200 rows lost.*(?s:.*)export.max_drop"):
            _check(*arguments, targets=right)


def test_the_message_names_the_keys_of_what_failed(pretend, tmp_path):
    make, add = pretend
    right = np.array([0, 1] * 100)
    for name, kind in (("int8", "tflite"), ("hub", "keras_hub"), ("good", "tflite")):
        add(name, _certain(right if name == "good" else 1 - right), "int8", kind)
    artifacts = {name: tmp_path / name for name in ("int8", "hub", "good")}
    with pytest.raises(ParityError, match="^2 of 3 artifacts do not answer as the") as caught:
        check_parity(make(_certain(right)), artifacts, [str(row) for row in range(200)])
    assert "(export.tflite, export.keras_hub), or allow more with" in str(caught.value)


def test_rows_won_make_up_for_rows_lost(pretend, tmp_path):
    right = np.array([0, 1] * 100)
    wanted, given = right.copy(), right.copy()
    wanted[:5] = 1 - wanted[:5]
    given[5:10] = 1 - given[5:10]
    parity = _check(pretend, tmp_path, _certain(wanted), _certain(given), "float16", targets=right)
    assert parity["artifacts"]["x"]["labels_changed"] == 10


@pytest.mark.parametrize(("changed", "passes"), [(4, True), (5, False)])
def test_without_targets_two_labels_of_a_hundred_may_change(pretend, tmp_path, changed, passes):
    before = np.array([0, 1] * 100)
    given = before.copy()
    given[:changed] = 1 - given[:changed]
    arguments = (pretend, tmp_path, _certain(before), _certain(given), "int8")
    if passes:
        assert _check(*arguments)["artifacts"]["x"]["labels_changed"] == changed
    else:
        with pytest.raises(ParityError, match="another label on 5 of 200 rows"):
            _check(*arguments)


def test_one_row_of_few_is_no_proof(pretend, tmp_path):
    right = np.array([0, 1] * 5)
    given = right.copy()
    given[0] = 1
    assert _check(pretend, tmp_path, _certain(right), _certain(given), "int8", targets=right)


def test_near_ties_are_told_apart(pretend, tmp_path):
    wanted, given = _certain([0] * 200), _certain([0] * 200)
    wanted[0], given[0] = [0.505, 0.495], [0.495, 0.505]
    given[1] = [0.2, 0.8]
    figures = _check(pretend, tmp_path, wanted, given, "int8")["artifacts"]["x"]
    assert (figures["labels_changed"], figures["labels_changed_near_ties"]) == (2, 1)


def test_chance_gets_a_second_look_on_more_rows(pretend, tmp_path):
    right = np.array([0, 1] * 450)
    first = np.random.default_rng(0).permutation(900)[:200]
    given = right.copy()
    given[first[:4]] = 1 - given[first[:4]]  # 2% of the first 200, 0.4% of all
    parity = _check(pretend, tmp_path, _certain(right), _certain(given), "int8", targets=right)
    figures = parity["artifacts"]["x"]
    assert (figures["rows"], figures["labels_changed"]) == (900, 4)
    given[:20] = 1 - given[:20]
    with pytest.raises(ParityError, match="of 900 rows lost"):
        _check(pretend, tmp_path, _certain(right), _certain(given), "int8", targets=right)


def test_two_hundred_rows_are_drawn_from_many(pretend, tmp_path):
    wanted = _certain([0, 1] * 500)
    parity = _check(pretend, tmp_path, wanted, wanted, "float32")
    assert (parity["rows"], parity["artifacts"]["x"]["rows"]) == (200, 200)


def test_another_number_of_labels(pretend, tmp_path):
    wanted = _certain([0, 1])
    with pytest.raises(ParityError, match="2 labels"):
        make, add = pretend
        add("x", wanted, "float32")
        (tmp_path / "x").write_text("")
        three = Manifest(labels=("a", "b", "c"), max_length=16)
        reference = Predictor(
            lambda texts, pairs: np.full((len(texts), 3), 1 / 3), three, kind="model"
        )
        check_parity(reference, {"x": tmp_path / "x"}, ["0", "1"])


def test_no_texts(tiny):
    with pytest.raises(ConfigError, match="Expected texts .* Received: none"):
        check_parity(tiny.reference, {}, [])


@pytest.mark.parametrize("extra", [{"targets": [0, 1]}, {"text_pairs": ["b", "c"]}])
def test_columns_of_different_lengths(tiny, extra):
    with pytest.raises(ConfigError, match=f"as many {next(iter(extra))} as texts. Received: 1"):
        check_parity(tiny.reference, {}, ["a"], **extra)
