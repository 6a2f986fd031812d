import dataclasses
import json

import keras
import needs
import numpy as np
import pytest
import small_families
import tensorflow as tf
from safetensors.numpy import load_file, save_file

from tfmodel.config import ConfigError
from tfmodel.export.gaps import Filler
from tfmodel.model import BertConfig, build_encoder, load_encoder, save_encoder
from tfmodel.tasks import fill, load_model
from tfmodel.tasks.tied_cross_entropy import tied_cross_entropy
from tfmodel.tokens import Tokenizer, Vocabulary

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
CONFIG = BertConfig(
    vocabulary_size=len(PIECES), hidden_size=16, layers=2, heads=2, intermediate_size=32,
    max_positions=12, dropout=0.0, attention_dropout=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(Vocabulary(PIECES), max_length=10)


def new_model(**arguments):
    keras.utils.set_random_seed(0)
    model = fill.build(build_encoder(CONFIG, **arguments))
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign_add(random.normal(size=weight.shape, scale=0.3).astype(np.float32))
    return model


@pytest.fixture(scope="module")
def model():
    """A model whose weights are large enough to tell tokens apart; not to be changed."""
    return new_model()


@pytest.fixture(scope="module")
def batch():
    """An ordinary row and a packed one, with positions out of order and an unused place."""
    random = np.random.default_rng(1)
    return {
        "token_ids": random.integers(2, len(PIECES), (2, 9)).astype(np.int32),
        "segment_ids": np.array([[0] * 5 + [1] * 4, [0] * 9], np.int32),
        "padding_mask": np.array([[1] * 8 + [0], [1, 1, 1, 1, 2, 2, 2, 2, 2]], np.int32),
        "masked_positions": np.array([[2, 7, 4], [5, 1, 0]], np.int32),
    }


TARGETS = np.array([[6, 9, 5], [12, 8, 0]], np.int32)
WEIGHTS = np.array([[1, 1, 1], [1, 1, 0]], np.float32)


def tokens_of(batch):
    return {name: values for name, values in batch.items() if name != "masked_positions"}


def logits_by_hand(model, batch):
    """Head and table applied to the encoder's whole sequence, in NumPy."""
    sequence = model.encoder(tokens_of(batch))["sequence"].numpy()
    hidden = np.take_along_axis(sequence, batch["masked_positions"][..., None], axis=1)
    transform, logits = model.get_layer("masked_transform"), model.get_layer("masked_logits")
    hidden = hidden @ transform.dense.kernel.numpy() + transform.dense.bias.numpy()
    hidden = keras.ops.gelu(hidden, approximate=False).numpy()
    hidden = (hidden - hidden.mean(-1, keepdims=True)) / np.sqrt(
        hidden.var(-1, keepdims=True) + CONFIG.layer_norm_epsilon
    )
    hidden = hidden * transform.normalize.gamma.numpy() + transform.normalize.beta.numpy()
    table = model.encoder.get_layer("embeddings").token_table.numpy()
    return hidden @ table.T + logits.bias.numpy()


# --- the model ----------------------------------------------------------------------------


def test_logits_are_those_of_the_whole_sequence(model, batch):
    logits = model(batch)
    assert logits.shape == (2, 3, len(PIECES)) and logits.dtype == tf.float32
    np.testing.assert_allclose(logits, logits_by_hand(model, batch), atol=1e-5)
    assert len(model.trainable_weights) == len(model.encoder.trainable_weights) + 5


def test_other_texts_of_a_packed_row_do_not_matter(model, batch):
    changed = {name: values.copy() for name, values in batch.items()}
    changed["token_ids"][1, :4] = 5
    np.testing.assert_array_equal(model(batch)[1, 0], model(changed)[1, 0])
    assert np.abs(model(batch)[1, 1] - model(changed)[1, 1]).max() > 1e-3


def test_an_encoder_without_a_sequence_is_refused():
    with pytest.raises(ValueError, match="sequence=True"):
        fill.build(build_encoder(CONFIG, sequence=False))


@pytest.mark.parametrize("recompute", [False, True])
def test_loss_and_gradients_are_those_of_plain_cross_entropy(batch, recompute):
    model = new_model(recompute=recompute)
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        (found,) = fill.sums(model, batch, TARGETS, WEIGHTS, training=True)
        loss = 3 * found[0]
    ours = tape.gradient(loss, [v.value for v in variables])
    with tf.GradientTape() as tape:
        logits = model(batch, training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(TARGETS, logits)
        expected = 3 * tf.reduce_sum(losses * WEIGHTS)
    theirs = tape.gradient(expected, [v.value for v in variables])
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    right = (tf.argmax(logits, -1).numpy() == TARGETS) * WEIGHTS
    assert found[1] == right.sum()
    assert sum(gradient is None for gradient in ours) == 2  # the pooler's
    for own, other, variable in zip(ours, theirs, variables, strict=True):
        if own is not None:
            own, other = tf.convert_to_tensor(own), tf.convert_to_tensor(other)
            np.testing.assert_allclose(own, other, atol=2e-5, err_msg=variable.path)


@pytest.mark.parametrize("places", [1, 3, 13])
def test_few_places_and_places_that_do_not_divide(places):
    random = np.random.default_rng(0)
    vectors, table = random.normal(size=(places, 8)), random.normal(size=(50, 8))
    vectors, table = vectors.astype(np.float32), table.astype(np.float32)
    bias = random.normal(size=50).astype(np.float32)
    ids = random.integers(0, 50, places).astype(np.int32)
    found = tied_cross_entropy(
        *map(tf.constant, (vectors, table, bias, ids)), tf.ones(places)
    )  # fmt: skip
    logits = vectors @ table.T + bias
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits(ids, logits)
    np.testing.assert_allclose(found[0], tf.reduce_sum(expected), rtol=1e-5)


def test_bfloat16_is_near(batch):
    whole, half = new_model(), new_model(dtype="mixed_bfloat16")
    assert half(batch).dtype == tf.float32
    one = fill.sums(whole, batch, TARGETS, WEIGHTS, training=False)[0][0]
    other = fill.sums(half, batch, TARGETS, WEIGHTS, training=False)[0][0]
    np.testing.assert_allclose(other, one, rtol=0.05)


def test_an_unused_place_changes_nothing(model, batch):
    changed = {**batch, "masked_positions": np.array([[2, 7, 4], [5, 1, 6]], np.int32)}
    targets = np.where(WEIGHTS > 0, TARGETS, 7)
    one = fill.sums(model, batch, TARGETS, WEIGHTS, training=False)[0]
    other = fill.sums(model, changed, targets, WEIGHTS, training=False)[0]
    np.testing.assert_allclose(one, other, rtol=1e-6)
    assert fill.counts(batch, TARGETS, WEIGHTS)[0] == 5


# --- answers ------------------------------------------------------------------------------


def test_gaps_are_filled(model, tokenizer):
    found = fill.fill(model, tokenizer, ["a [MASK] c", "[MASK] b [MASK]"], top=3)
    assert [len(gaps) for gaps in found] == [1, 2]
    assert [answer["score"] for answer in found[0][0]] == sorted(
        (answer["score"] for answer in found[0][0]), reverse=True
    )
    inputs, gaps = fill.batch(["a [MASK] c", "[MASK] b [MASK]"], tokenizer)
    assert gaps == [1, 2]
    assert inputs["token_ids"].tolist() == [[2, 5, 4, 7, 3], [2, 4, 6, 4, 3]]
    logits = model(inputs).numpy()
    assert found[1][1][0]["token"] == PIECES[logits[1, 1].argmax()]
    whole = fill.fill(model, tokenizer, ["a [MASK]"], top=99)[0][0]
    assert len(whole) == len(PIECES) and sum(a["score"] for a in whole) == pytest.approx(1)


def test_words_for_augmentation_are_the_likeliest_whole_ones(model, tokenizer):
    replace = fill.replacer(model, tokenizer, top=3)
    texts = ["a [MASK] c", "[MASK]", "a b c d e f g h i [MASK]", "a [MASK] [MASK]"]
    found = replace(texts, ["b", "J", "j", "b"])
    (likeliest,), _ = fill.fill(model, tokenizer, texts[:2], top=99)
    whole = [each["token"] for each in likeliest if each["token"].isalpha()]
    assert found[0] == [piece for piece in whole if piece != "b"][:3]
    assert len(found[1]) == 3 and "j" not in found[1]
    assert found[2] == found[3] == []  # beyond what the model reads; not one gap alone


def test_rows_of_the_table_without_a_piece_are_no_answers():
    assert fill.likeliest(np.array([[0.0, 9.0, 1.0]]), ["a", "b"], top=9).tokens == [["b", "a"]]


@pytest.mark.parametrize("text", ["a b", "", "a b c d e f g h i j [MASK]"])
def test_a_text_without_a_gap_is_refused(model, tokenizer, text):
    with pytest.raises(ConfigError, match="MASK"):
        fill.fill(model, tokenizer, [text])


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("a [MASK] c", ["b"], "a b c"),
        ("play [MASK] or [MASK].", ["##ing", "not"], "playing or not."),
        ("[MASK][MASK]", ["a", "##b"], "ab"),
        ("a [MASK] [MASK]", ["b"], "a b [MASK]"),  # the second was not read
        ("no gap, ##, é 😀 中", [], "no gap, ##, é 😀 中"),
        ("\n[MASK] \t", ["##"], "\n## \t"),
    ],
)
def test_a_text_is_filled_in_and_out_of_a_graph(text, tokens, expected):
    assert fill.filled(text, tokens) == expected
    given = [text, "another [MASK]", ""]
    answers = tf.RaggedTensor.from_row_lengths(
        tf.constant([[token, "x"] for token in [*tokens, "y"]]), [len(tokens), 1, 0]
    )
    scores = answers.with_values(tf.ones((len(tokens) + 1, 2)))
    served = fill.served({"text": tf.constant(given), "tokens": answers, "scores": scores})
    assert [each.decode() for each in served["filled"].numpy()] == [expected, "another y", ""]
    assert served["tokens"].shape == served["scores"].shape == (3, max(len(tokens), 1), 2)
    values = fill.values_of_served({name: each.numpy() for name, each in served.items()})
    assert [each.tokens for each in values] == [[[t, "x"] for t in tokens], [["y", "x"]], []]


def test_the_graph_of_an_export_answers_as_the_function_does(model, tokenizer):
    texts = ["a [MASK] c", "[MASK] b [MASK]", "a b", "", "a b c d e f g h i j [MASK]", "[MASK]"]
    filler = Filler(tokenizer, max_length=10, decoding={"top": 3})
    rows = filler.rows(tf.constant(texts))
    inputs, _ = fill.batch(texts[:2], tokenizer)
    assert rows.to_list()[:2] == [[2, 5, 4, 7, 3], [2, 4, 6, 4, 3]]
    assert filler.positions(rows).to_list() == [[2], [1, 3], [], [], [], [1]]
    found = filler.function(model)(rows)
    served = fill.served({"text": tf.constant(texts), **found})
    values = fill.values_of_served({name: each.numpy() for name, each in served.items()})
    answers = fill.decode(values, texts=texts)
    whole = fill.fill(model, tokenizer, texts[:2], top=3)
    for gaps, expected in zip([answers[0]["gaps"], answers[1]["gaps"]], whole, strict=True):
        assert [[a["token"] for a in gap] for gap in gaps] == [
            [a["token"] for a in gap] for gap in expected
        ]
        assert gaps[0][0]["score"] == pytest.approx(expected[0][0]["score"], abs=1e-6)
    assert [answer["gaps"] for answer in answers[2:5]] == [[]] * 3
    assert answers[4]["filled"] == texts[4]
    # One gap at a time, as a phone is asked.
    ask = filler.ask(lambda batch: model(batch).numpy()[:, 0], length=10)
    for one, other in zip(ask(tf.constant(texts)), values, strict=True):
        assert one.tokens == other.tokens
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    assert inputs["token_ids"].shape == (2, 5)


def test_what_could_not_be_filled_is_said():
    one = fill.Gaps([["b"]], np.ones((1, 1)))
    none = fill.Gaps([], np.zeros((0, 1)))
    assert fill.notice([one], ["a [MASK]"], max_length=9) == ""
    said = fill.notice([one, none, none], ["[MASK] a [MASK]", "a b", "a"], max_length=9)
    assert "2 of 3 texts have no [MASK]: nothing is filled there." in said
    assert "1 [MASK] in 1 texts stand behind the first 9 tokens" in said


def test_a_vocabulary_without_a_mask_is_refused():
    pieces = [piece for piece in PIECES if piece != "[MASK]"]
    without = Tokenizer(Vocabulary(pieces), max_length=10)
    with pytest.raises(ConfigError, match=r"a vocabulary with \[MASK\]. Received: one without"):
        Filler(without, max_length=10, decoding={})


# --- folders ------------------------------------------------------------------------------


def test_a_saved_model_answers_the_same(model, batch, tokenizer, tmp_path):
    folder = fill.save(model, tmp_path / "model", tokenizer=tokenizer, max_length=9)
    loaded = fill.load(folder)
    np.testing.assert_array_equal(loaded.model(batch), model(batch))
    assert loaded.max_length == 9 and loaded.tokenizer.vocabulary.pieces == PIECES
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["BertForMaskedLM"]
    pooled = load_encoder(folder)(tokens_of(batch))["pooled"]
    np.testing.assert_array_equal(pooled, model.encoder(tokens_of(batch))["pooled"])


def test_a_head_is_taken_up_where_there_is_one(model, batch, tokenizer, tmp_path):
    folder = fill.save(model, tmp_path / "model", tokenizer=tokenizer)
    begun = fill.build(load_encoder(folder))
    assert np.abs(begun(batch) - model(batch)).max() > 1e-3
    assert fill.take_up_head(begun, folder)
    np.testing.assert_array_equal(begun(batch), model(batch))
    alone = save_encoder(model.encoder, tmp_path / "encoder", tokenizer=tokenizer)
    assert not fill.take_up_head(fill.build(load_encoder(alone)), alone)
    with pytest.raises(ConfigError, match="masked language model's head. Received: none"):
        fill.load(alone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("cls.predictions.bias"), "cls.predictions.bias: missing"),
        (
            lambda t: t.update({"cls.predictions.bias": np.zeros(3, np.float32)}),
            r"bias: \(3,\) where \(15,\) is expected",
        ),
        (
            lambda t: t.update({"cls.predictions.decoder.weight": np.zeros((15, 16), np.float32)}),
            "another than the token table",
        ),
    ],
)
def test_a_damaged_head_is_refused(model, tokenizer, tmp_path, change, message):
    folder = fill.save(model, tmp_path / "model", tokenizer=tokenizer)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=message):
        fill.load(folder)


def test_a_head_of_another_family_is_none_here(model, tokenizer, tmp_path):
    folder = fill.save(model, tmp_path / "model", tokenizer=tokenizer)
    tensors = load_file(folder / "model.safetensors")
    renamed = {
        name.replace("cls.predictions.transform.", "lm_head.").replace(
            "cls.predictions.", "lm_head."
        ): value
        for name, value in tensors.items()
    }
    save_file(renamed, folder / "model.safetensors")
    with pytest.raises(ConfigError, match="head. Received: none; the folder is of BertForMaskedLM"):
        load_model(folder)


@pytest.mark.parametrize("family", small_families.SHAPES)
def test_a_model_of_each_family_comes_back_as_it_was(family, tmp_path):
    keras.utils.set_random_seed(0)
    tokenizer = small_families.tokenizer_of(family)
    shape = small_families.shape_of(family, len(tokenizer.vocabulary))
    model = fill.build(build_encoder(dataclasses.replace(shape, layers=1)))
    folder = fill.save(model, tmp_path / "model", tokenizer=tokenizer)
    loaded = load_model(folder)
    assert loaded.task == "fill"
    gap = tokenizer.vocabulary.special["mask"]
    inputs, _ = fill.batch([f"the {gap} was on monday", f"{gap}, {gap}"], tokenizer)
    np.testing.assert_array_equal(loaded.model(inputs), model(inputs))
    replace = fill.replacer(loaded.model, loaded.tokenizer, top=3)
    (words,) = replace(["the [MASK] was on monday"], ["rain"])  # so it is asked of any model
    assert len(words) == 3 and all(word.isalpha() for word in words)


@pytest.mark.slow
def test_transformers_gives_the_same_logits_both_ways(model, batch, tokenizer, tmp_path):
    torch = needs.package("torch")
    transformers = needs.package("transformers")
    folder = fill.save(model, tmp_path / "ours", tokenizer=tokenizer)
    theirs, info = transformers.BertForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert all(name.startswith("bert.pooler.") for name in info["unexpected_keys"])
    row = {name: values[:1] for name, values in batch.items()}  # theirs knows no packed rows

    def logits_of(their):
        with torch.no_grad():
            found = their.eval()(
                input_ids=torch.tensor(row["token_ids"], dtype=torch.long),
                token_type_ids=torch.tensor(row["segment_ids"], dtype=torch.long),
                attention_mask=torch.tensor(row["padding_mask"], dtype=torch.long),
            ).logits.numpy()
        return np.take_along_axis(found, row["masked_positions"][..., None], axis=1)

    np.testing.assert_allclose(logits_of(theirs), model(row), atol=1e-4)

    torch.manual_seed(3)
    config = transformers.BertConfig(**{**theirs.config.to_dict(), "initializer_range": 0.3})
    other = transformers.BertForMaskedLM(config)
    torch.nn.init.normal_(other.cls.predictions.bias)
    other.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    loaded = fill.load(tmp_path / "theirs")
    np.testing.assert_allclose(loaded.model(row), logits_of(other), atol=1e-4)
