"""Vectors for texts: pooling, the losses, what rows say, the folder, training."""

import json
import math

import keras
import needs
import numpy as np
import pytest

import tfmodel as tm
from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.data import Split
from tfmodel.model import BertConfig, build_encoder, read_sentence_settings, save_encoder
from tfmodel.model.pooling import SentencePooling
from tfmodel.tasks import embed
from tfmodel.tokens import Tokenizer, Vocabulary
from tfmodel.tokens.batches import Batches
from tfmodel.tokens.packed_texts import PackedTexts

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
CONFIG = BertConfig(
    vocabulary_size=len(PIECES), hidden_size=16, layers=2, heads=2, intermediate_size=32,
    max_positions=12,
)  # fmt: skip
TEXTS = ["a b c", "d", "e f g h i j a b", ""]
OPTIONS = {"loss": "auto", "temperature": 0.05, "margin": 0.2, "pooling": "auto"}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(Vocabulary(PIECES), max_length=10)


def new_encoder(seed=0):
    keras.utils.set_random_seed(seed)
    encoder = build_encoder(CONFIG)
    generator = np.random.default_rng(seed)
    for weight in encoder.trainable_weights:
        weight.assign_add(generator.normal(size=weight.shape, scale=0.2).astype(np.float32))
    return encoder


def rows_of(texts, pairs, labels=None):
    labels = [None] * len(texts) if labels is None else labels
    return Split(list(texts), None if pairs is None else list(pairs), labels, ["x:1"] * len(texts))


# --- vectors --------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_are_what_numpy_makes_of_the_hidden_states(tokenizer, pooling, normalize):
    encoder = new_encoder()
    batch = tokenizer(TEXTS)
    hidden, mask = encoder(batch)["sequence"].numpy(), batch["padding_mask"].numpy()
    wanted = hidden[:, 0]
    if pooling == "mean":
        wanted = np.stack([hidden[i][mask[i] == 1].mean(axis=0) for i in range(len(TEXTS))])
    if normalize:
        wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
    found = embed.build(encoder, pooling=pooling, normalize=normalize)(batch)
    assert found.shape == (4, 16)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_texts_packed_in_a_row_do_not_see_each_other(tokenizer, pooling):
    model = embed.build(new_encoder(), pooling=pooling, texts=3)
    columns = [TEXTS, TEXTS[::-1], TEXTS[1:] + TEXTS[:1]]
    rows = PackedTexts.from_columns(tokenizer, columns)
    packed = model(rows.batch(np.arange(4))).numpy()
    assert packed.shape == (4, 3, 16)
    alone = embed.answering(model)
    for number, column in enumerate(columns):
        np.testing.assert_allclose(packed[:, number], alone(tokenizer(column)), atol=1e-5)
    assert embed.answering(alone) is alone


def test_the_layer_is_saved_and_restored():
    layer = SentencePooling("cls", False, 2, name="pooling")
    again = SentencePooling.from_config(layer.get_config())
    assert (again.pooling, again.normalize, again.texts) == ("cls", False, 2)
    assert layer.compute_output_shape((3, 5, 16)) == (3, 2, 16)


def test_models_that_cannot_be_built():
    encoder = new_encoder()
    with pytest.raises(ValueError, match="pooling must be one of mean, cls. Received: max"):
        embed.build(encoder, pooling="max")
    with pytest.raises(ValueError, match="texts must be 1 or more"):
        embed.build(encoder, texts=0)
    with pytest.raises(ValueError, match="there is no head. Received: 0.1"):
        embed.build(encoder, dropout=0.1)
    with pytest.raises(ValueError, match="built with sequence=False"):
        embed.build(build_encoder(CONFIG, sequence=False))
    with pytest.raises(ValueError, match="named 'other'"):
        embed.build(build_encoder(CONFIG, name="other"))
    with pytest.raises(ValueError, match="Expected a model of embed.build"):
        embed.answering(encoder)


# --- losses ---------------------------------------------------------------------------------


def on_circle(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)


def test_the_contrastive_loss_by_hand():
    vectors = np.stack([on_circle(0, 90), on_circle(30, 100)], axis=1) * 3  # lengths are no matter
    loss = embed.loss(temperature=0.5)
    cosine = [[math.cos(math.radians(a - b)) / 0.5 for b in (30, 100)] for a in (0, 90)]
    wanted = [-math.log(math.exp(row[i]) / sum(map(math.exp, row))) for i, row in enumerate(cosine)]
    given = loss.call(np.array([[0, 1], [2, 3]], np.float32), vectors)
    np.testing.assert_allclose(given, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    "targets",
    [
        [[0, 1], [2, 1]],  # the partners are equal
        [[0, 1], [0, 3]],  # the texts are
        [[0, 1], [2, 0]],  # the other's partner is the text itself
    ],
)
def test_equal_texts_are_no_negatives(targets):
    vectors = np.stack([on_circle(0, 90), on_circle(30, 100)], axis=1)
    given = embed.loss().call(np.array(targets, np.float32), vectors).numpy()
    assert given[0] == pytest.approx(0, abs=1e-6)


def test_hard_negatives_are_told_apart_too():
    targets = np.array([[0, 1, 2], [3, 4, 5]], np.float32)
    vectors = np.stack([on_circle(0, 90), on_circle(30, 100), on_circle(60, 200)], axis=1)
    given = embed.loss(temperature=1.0).call(targets, vectors).numpy()
    cosine = [math.cos(math.radians(a)) for a in (30, 100, 60, 200)]
    wanted = -math.log(math.exp(cosine[0]) / sum(map(math.exp, cosine)))
    assert given[0] == pytest.approx(wanted, rel=1e-5)
    without = embed.loss(temperature=1.0).call(targets[:, :2], vectors[:, :2]).numpy()
    assert (given > without).all()
    # One that is the partner of another row is one negative more; the row's own partner is none.
    equal = np.array([[0, 1, 1], [3, 4, 5]], np.float32)
    cosine = [math.cos(math.radians(a)) for a in (30, 100, 200)]
    wanted = -math.log(math.exp(cosine[0]) / sum(map(math.exp, cosine)))
    given = embed.loss(temperature=1.0).call(equal, vectors).numpy()
    assert given[0] == pytest.approx(wanted, rel=1e-5)


def test_the_triplet_loss_by_hand():
    vectors = np.stack([on_circle(0, 0), on_circle(60, 60), on_circle(90, 180)], axis=1)
    given = embed.loss("triplet", margin=0.7).call(None, vectors)
    np.testing.assert_allclose(given, [0.7 - 0.5, 0.0], atol=1e-6)


def test_the_cosine_loss_by_hand():
    vectors = np.stack([on_circle(0, 0), on_circle(60, 90)], axis=1)
    given = embed.loss("cosine", low=0.0, high=5.0).call(np.array([5.0, 2.5]), vectors)
    np.testing.assert_allclose(given, [0.25, 0.25], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "softmax"}, "loss must be contrastive, triplet or cosine. Received: 'softmax'"),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"name": "triplet", "margin": 3.0}, "margin must be in .0, 2.. Received: 3.0"),
        ({"name": "cosine", "low": 1.0, "high": 1.0}, "low must be below high"),
    ],
)
def test_losses_that_there_are_not(arguments, message):
    with pytest.raises(ValueError, match=message):
        embed.loss(**arguments)


# --- what rows say --------------------------------------------------------------------------


def test_equal_texts_have_equal_numbers():
    found = embed.targets_of(rows_of(["a", "b", "a"], ["c", "a", "c"]))
    assert found.dtype == np.int32 and found.shape == (3, 2)
    assert found[0].tolist() == found[2].tolist() and found[1, 1] == found[0, 0]
    assert len(np.unique(found)) == 3
    found = embed.targets_of(rows_of(["a", "b"], ["c", "d"], ["b", "e"]))
    assert found.shape == (2, 3) and found[0, 2] == found[1, 0]
    assert embed.head_arguments([], ["b", "e"]) == {"texts": 3}


def test_scores_stay_what_they_are():
    found = embed.targets_of(rows_of(["a", "b"], ["c", "d"], np.array([0.5, 4.0])))
    assert found.dtype == np.float32 and found.tolist() == [0.5, 4.0]
    chosen = embed.loss_arguments(OPTIONS, found)
    assert chosen == {"name": "cosine", "low": 0.5, "high": 4.0}
    assert embed.head_arguments([], np.array([0.5])) == {"texts": 2}


def test_the_loss_is_that_of_the_rows():
    chosen = embed.loss_arguments({**OPTIONS, "temperature": 0.1}, np.zeros((3, 2), np.int32))
    assert chosen == {"name": "contrastive", "temperature": 0.1, "margin": 0.2}
    chosen = embed.loss_arguments({**OPTIONS, "loss": "triplet"}, np.zeros((3, 3), np.int32))
    assert isinstance(embed.loss(**chosen), type(embed.loss("triplet")))


def test_rows_that_say_nothing():
    with pytest.raises(ConfigError, match="rows of two texts. Received: single texts. Name the"):
        embed.targets_of(rows_of(["a"], None))
    with pytest.raises(ConfigError, match="different scores. Received: 2 training rows that all"):
        embed.loss_arguments(OPTIONS, np.array([3.0, 3.0]))


def test_figures_of_dev_are_those_of_the_rows():
    vectors = np.random.default_rng(0).normal(size=(5, 2, 4))
    pairs = np.arange(10).reshape(5, 2)
    assert [*embed.dev_figures(pairs, vectors)] == ["recall_at_10", "recall_at_1", "mrr"]
    assert [*embed.dev_figures(np.arange(5.0), vectors)] == ["spearman", "pearson"]
    lost = embed.dev_figures(pairs, vectors * np.nan)
    assert all(map(math.isnan, lost.values()))


# --- folders --------------------------------------------------------------------------------


def write_sentence_folder(folder, tokenizer, **asked):
    model = embed.build(new_encoder(), **asked)
    return embed.save(model, folder, tokenizer=tokenizer, max_length=8), model


@pytest.mark.parametrize("asked", [{}, {"pooling": "cls", "normalize": False, "texts": 2}])
def test_a_folder_is_read_back(tmp_path, tokenizer, asked):
    folder, model = write_sentence_folder(tmp_path / "m", tokenizer, **asked)
    loaded = tasks.load_model(folder)
    assert (loaded.task, loaded.labels, loaded.has_pairs) == ("embed", [], False)
    assert loaded.max_length == loaded.tokenizer.max_length == 8
    pooling = embed.pooling_of(loaded.model)
    wanted = {"pooling": "mean", "normalize": True, **asked}
    assert (pooling.pooling, pooling.normalize) == (wanted["pooling"], wanted["normalize"])
    batch = tokenizer(TEXTS, max_length=8)
    np.testing.assert_allclose(loaded.model(batch), embed.answering(model)(batch), atol=1e-6)
    found = read_sentence_settings(folder)
    assert (found.pooling, found.normalize, found.max_length) == (*wanted.values(), 8)[:2] + (8,)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertModel"]


def test_a_folder_may_be_read_otherwise(tmp_path, tokenizer):
    folder, model = write_sentence_folder(tmp_path / "m", tokenizer)
    loaded = embed.load(folder, pooling="cls", normalize=False, max_length=6)
    pooling = embed.pooling_of(loaded.model)
    assert (pooling.pooling, pooling.normalize, loaded.max_length) == ("cls", False, 6)
    assert embed.own_head({"pooling": "auto", "normalize": "auto"}, folder) == {
        "pooling": "mean",
        "normalize": True,
    }
    assert embed.own_head({"pooling": "cls", "normalize": False}, tmp_path) == {
        "pooling": "cls",
        "normalize": False,
    }


def test_an_encoder_alone_is_no_model_until_it_is_said_to_be(tmp_path, tokenizer):
    save_encoder(new_encoder(), tmp_path / "m", tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="read sentence vectors with tm.tasks.embed.load"):
        tm.load(tmp_path / "m")
    loaded = embed.load(tmp_path / "m")
    assert embed.pooling_of(loaded.model).pooling == "mean" and loaded.max_length == 10


def test_a_transformer_in_a_folder_of_its_own(tmp_path, tokenizer):
    folder, model = write_sentence_folder(tmp_path / "m", tokenizer)
    inside = folder / "0_Transformer"
    inside.mkdir()
    kept = {"modules.json", "1_Pooling", "0_Transformer"}
    for path in [path for path in folder.iterdir() if path.name not in kept]:
        path.rename(inside / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    given = tm.load(folder).vectors(TEXTS)
    wanted = embed.answering(model)(tokenizer(TEXTS, max_length=8))
    np.testing.assert_allclose(given, wanted, atol=1e-5)


def test_a_folder_that_changes_every_text_is_refused(tmp_path, tokenizer):
    folder, _ = write_sentence_folder(tmp_path / "m", tokenizer)
    settings = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="one that puts 'query: ' before every text. Remove"):
        tm.load(folder)


def test_a_vocabulary_of_another_encoder_is_refused(tmp_path, tokenizer):
    folder, _ = write_sentence_folder(tmp_path / "m", tokenizer)
    (folder / "vocab.txt").write_text("\n".join([*PIECES, "k"]) + "\n")
    with pytest.raises(ConfigError, match="a vocabulary of at most 15 pieces, as config.json says"):
        tm.load(folder)


def test_answers_and_the_nearest(tmp_path, tokenizer):
    folder, model = write_sentence_folder(tmp_path / "m", tokenizer)
    predictor = tm.load(folder)
    (answer,) = predictor.predict(["a b"])
    assert [*answer] == ["text", "vector"] and len(answer["vector"]) == 16
    np.testing.assert_allclose(predictor.values(TEXTS), predictor.vectors(TEXTS))
    rows, scores = embed.nearest(predictor.vectors(["d"]), predictor.vectors(TEXTS), count=2)
    assert rows[0, 0] == 1 and scores[0, 0] == pytest.approx(1, abs=1e-5)
    with pytest.raises(ConfigError, match="scores labels. Received: one of the task embed"):
        predictor.probabilities(["a"])
    asked = embed.asked(rows_of(["a", "b"], ["b", "c"]))
    assert asked.texts == ["a", "b", "c"] and asked.text_pairs is None
    vectors = embed.answers_of(predictor, rows_of(["a", "b"], ["b", "c"], ["d", "a"]))
    assert vectors.shape == (2, 3, 16)
    np.testing.assert_array_equal(vectors[0, 1], vectors[1, 0])


@pytest.mark.slow
@pytest.mark.parametrize("asked", [{}, {"pooling": "cls", "normalize": False}])
def test_sentence_transformers_gives_the_same_vectors(tmp_path, tokenizer, asked):
    theirs = needs.package("sentence_transformers").SentenceTransformer
    folder, _ = write_sentence_folder(tmp_path / "m", tokenizer, **asked)
    model = theirs(str(folder), device="cpu")
    assert model.max_seq_length == 8
    given = tm.load(folder).vectors(TEXTS)
    np.testing.assert_allclose(given, model.encode(TEXTS), atol=1e-5)
    model.save(str(tmp_path / "theirs"))
    np.testing.assert_allclose(tm.load(tmp_path / "theirs").vectors(TEXTS), given, atol=1e-5)


# --- training -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["contrastive", "triplet", "cosine"])
def test_each_loss_brings_partners_together(tokenizer, name):
    """A letter and the one five places on belong together, which no new encoder knows."""
    letters = "abcdefghij"
    pairs = [
        (f"{a} {b}", f"{chr(ord(a) + 5)} {chr(ord(b) + 5)}")
        for a in letters[:5]
        for b in letters[:5]
    ]
    first, second = map(list, zip(*pairs, strict=True))
    others = second[7:] + second[:7]
    if name == "cosine":
        split = rows_of(first * 2, second + others, np.repeat([4.0, 1.0], len(first)))
    else:
        split = rows_of(first, second, others if name == "triplet" else None)
    targets = embed.targets_of(split)
    keras.utils.set_random_seed(0)
    texts = embed.head_arguments([], split.labels)["texts"]
    model = embed.build(build_encoder(CONFIG), texts=texts)
    rows = embed.token_rows(tokenizer, split, max_length=10)

    training = tm.TrainingModel(model)
    loss = embed.loss(**embed.loss_arguments({**OPTIONS, "loss": name}, targets))
    training.compile(tm.adamw(5e-3), loss=loss, metrics=embed.metrics(), jit_compile=False)
    whole = rows.batch(np.arange(len(rows)))
    figure = {"contrastive": "recall_at_1", "triplet": "triplet_accuracy", "cosine": "spearman"}

    def measured():
        return embed.evaluate(targets, model(whole).numpy())[figure[name]]

    before = measured()
    data = Batches(rows, targets, batch_size=10, seed=0).dataset()
    training.fit(data, epochs=12, shuffle=False, verbose=0)
    after = measured()
    assert after > before + 0.3 and after > 0.6
