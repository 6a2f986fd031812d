"""Heads on encoders of BERT's family: each folder is its family's own, and comes back as it was."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.model import BertConfig, build_encoder, encoder_config, save_encoder
from tfmodel.tasks import classify, embed, multilabel, regress, span, tag
from tfmodel.tokens import Tokenizer, Vocabulary
from tfmodel.tokens.byte_pairs import SPECIAL_PIECES, BytePairTokenizer, byte_letters

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
LABELS = ["no", "ja, 是", "maybe"]
SIZES = {"hidden_size": 16, "layers": 2, "heads": 2, "intermediate_size": 32, "max_positions": 10}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A family, and what transformers calls its head.

    Attributes:
        shape: fields of `BertConfig` beside the sizes.
        architecture: how the names of its classes begin.
        dropout: key of the head's dropout.
        pooler: the layer of `pooled`.
        last: the last layer.
        encoder: a tensor of the encoder.
    """

    shape: dict
    architecture: str
    dropout: str
    pooler: str
    last: str
    encoder: str


KINDS = {
    "distilbert": Kind(
        {"segments": 0},
        "DistilBert",
        "seq_classif_dropout",
        "pre_classifier",
        "classifier",
        "distilbert.transformer.layer.1.attention.q_lin.weight",
    ),
    "electra": Kind(
        {"embedding_size": 6},
        "Electra",
        "classifier_dropout",
        "classifier.dense",
        "classifier.out_proj",
        "electra.embeddings_project.weight",
    ),
    "roberta": Kind(
        {"segments": 1},
        "Roberta",
        "classifier_dropout",
        "classifier.dense",
        "classifier.out_proj",
        "roberta.encoder.layer.1.attention.self.query.weight",
    ),
    "albert": Kind(
        {"embedding_size": 6, "layer_groups": 1},
        "Albert",
        "classifier_dropout_prob",
        "albert.pooler",
        "classifier",
        "albert.encoder.embedding_hidden_mapping_in.weight",
    ),
}


@pytest.fixture(params=KINDS)
def family(request):
    return request.param


@pytest.fixture
def tokenizer(family):
    if family == "roberta":
        pieces = [*SPECIAL_PIECES.values(), *byte_letters()]
        return BytePairTokenizer(Vocabulary(pieces, special=SPECIAL_PIECES), [], max_length=8)
    return Tokenizer(Vocabulary(PIECES), max_length=8)


def new_model(family, tokenizer, *, task=classify, dropout=0.25, **head):
    keras.utils.set_random_seed(0)
    shape = BertConfig(
        family=family, vocabulary_size=len(tokenizer.vocabulary), **SIZES, **KINDS[family].shape
    )
    head = head or {"classes": len(LABELS)}
    model = task.build(build_encoder(shape, sequence=False), dropout=dropout, **head)
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign_add(random.normal(size=weight.shape, scale=0.2).astype(np.float32))
    return model


@pytest.fixture
def model(family, tokenizer):
    return new_model(family, tokenizer)


@pytest.fixture
def folder(tmp_path, model, tokenizer):
    return classify.save(model, tmp_path / "model", tokenizer=tokenizer, labels=LABELS)


def test_the_folder_is_the_familys_own(folder, family, model):
    kind, config = KINDS[family], json.loads((folder / "config.json").read_text("utf-8"))
    assert config["model_type"] == family
    assert config["architectures"] == [f"{kind.architecture}ForSequenceClassification"]
    assert config[kind.dropout] == 0.25
    assert config["id2label"] == {"0": "no", "1": "ja, 是", "2": "maybe"}
    tensors = load_file(folder / "model.safetensors")
    assert tensors[f"{kind.last}.weight"].shape == (3, 16)
    assert tensors[f"{kind.last}.bias"].shape == (3,)
    assert tensors[f"{kind.pooler}.weight"].shape == (16, 16)
    assert kind.encoder in tensors
    own = (kind.pooler, kind.last, f"{family}.")
    assert [name for name in tensors if not name.startswith(own)] == []


def test_a_classifier_comes_back_as_it_was(folder, family, model, tokenizer):
    batch = tokenizer(["a b c", "d", "e f g h i j a b"])
    loaded = tasks.load_model(folder)
    np.testing.assert_array_equal(loaded.model(batch), model(batch))
    assert (loaded.task, loaded.labels, loaded.max_length) == ("classify", LABELS, 8)
    assert type(loaded.tokenizer) is type(tokenizer)
    assert loaded.model.get_layer("pooled_dropout").rate == 0.25
    shapes = [encoder_config(each.get_layer("encoder")) for each in (loaded.model, model)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("task", "head", "labels"),
    [
        (multilabel, {"classes": 3}, LABELS),
        (regress, {"mean": 20.0, "scale": 8.0}, ["score"]),
    ],
)
def test_other_tasks_have_the_same_head(tmp_path, family, tokenizer, task, head, labels):
    model = new_model(family, tokenizer, task=task, **head)
    out = task.save(model, tmp_path / "model", tokenizer=tokenizer, labels=labels)
    loaded = tasks.load_model(out)
    assert f"tfmodel.tasks.{loaded.task}" == task.__name__
    batch = tokenizer(["a b c", "d"])
    np.testing.assert_allclose(loaded.model(batch), model(batch), rtol=1e-5)


def test_heads_on_all_tokens_are_the_familys_own_too(tmp_path, family, tokenizer):
    kind = KINDS[family]
    shape = BertConfig(
        family=family, vocabulary_size=len(tokenizer.vocabulary), **SIZES, **kind.shape
    )
    encoder, batch = build_encoder(shape), tokenizer(["a b c", "d"])
    for task, model, head, architecture in (
        (tag, tag.build(encoder, tags=3, dropout=0.25), "classifier", "ForTokenClassification"),
        (span, span.build(encoder, dropout=0.25), "qa_outputs", "ForQuestionAnswering"),
    ):
        labels = ["O", "B-x", "I-x"] if task is tag else ["start", "end"]
        folder = task.save(model, tmp_path / head, tokenizer=tokenizer, labels=labels)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        assert config["architectures"] == [kind.architecture + architecture]
        tensors = load_file(folder / "model.safetensors")
        assert tensors[f"{head}.weight"].shape == (len(labels), 16)
        own = (head, f"{family}.")
        assert [name for name in tensors if not name.startswith(own)] == []
        assert [name for name in tensors if "pooler" in name or "dense.weight" in name[:20]] == []
        loaded = tasks.load_model(folder)
        assert f"tfmodel.tasks.{loaded.task}" == task.__name__
        np.testing.assert_array_equal(loaded.model(batch), model(batch))
        assert loaded.model.get_layer("sequence_dropout").rate == 0.25


def test_vectors_are_of_the_familys_own_encoder(tmp_path, family, tokenizer):
    shape = BertConfig(
        family=family, vocabulary_size=len(tokenizer.vocabulary), **SIZES, **KINDS[family].shape
    )
    model = embed.build(build_encoder(shape), pooling="cls")
    folder = embed.save(model, tmp_path / "model", tokenizer=tokenizer)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["architectures"] == [f"{KINDS[family].architecture}Model"]
    batch = tokenizer(["a b c", "d"])
    loaded = tasks.load_model(folder)
    np.testing.assert_array_equal(loaded.model(batch), model(batch))
    assert type(loaded.tokenizer) is type(tokenizer)


def test_the_encoder_of_a_classifier_loads_without_its_head(folder, tmp_path, caplog):
    from tfmodel.model import load_encoder

    encoder = load_encoder(folder)
    assert not caplog.records  # pooler and head are both known
    save_encoder(encoder, tmp_path / "encoder")


def test_an_encoder_is_not_a_classifier(family, model, tokenizer, tmp_path):
    out = save_encoder(model.get_layer("encoder"), tmp_path / "encoder", tokenizer=tokenizer)
    begin = KINDS[family].architecture
    message = rf"\({begin}ForSequenceClassification.*\). Received: {begin}Model"
    with pytest.raises(ConfigError, match=message):
        tasks.load_model(out)
    with pytest.raises(ConfigError, match=f"head. Received: no {KINDS[family].last}.weight"):
        classify.load(out)


def test_a_head_of_another_family_is_none_here(folder, family):
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**config, "architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(ConfigError, match="Received: BertForSequenceClassification"):
        tasks.load_model(folder)


def test_a_head_without_the_layer_below_it_is_refused(folder, family):
    if family == "albert":
        pytest.skip("its pooler is the base model's")
    path, pooler = folder / "model.safetensors", KINDS[family].pooler
    tensors = load_file(path)
    kept = {name: value for name, value in tensors.items() if not name.startswith(pooler)}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=f"expected the pooler .* no {pooler}.weight"):
        tasks.load_model(folder)


def test_of_two_poolers_the_heads_own_is_taken(tmp_path):
    """As in RoBERTas of old, saved with both."""
    pieces = [*SPECIAL_PIECES.values(), *byte_letters()]
    tokenizer = BytePairTokenizer(Vocabulary(pieces, special=SPECIAL_PIECES), [], max_length=8)
    model = new_model("roberta", tokenizer)
    folder = classify.save(model, tmp_path / "model", tokenizer=tokenizer, labels=LABELS)
    tensors = load_file(folder / "model.safetensors")
    for each in ("weight", "bias"):
        other = np.ones_like(tensors[f"classifier.dense.{each}"])
        tensors[f"roberta.pooler.dense.{each}"] = other
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    batch = tokenizer(["a b c"])
    np.testing.assert_array_equal(tasks.load_model(folder).model(batch), model(batch))


def test_distilberts_tokenizer_gives_no_segments_where_no_class_is_named(tmp_path):
    """As in the first folders of DistilBERT, whose model takes none."""
    tokenizer = Tokenizer(Vocabulary(PIECES), max_length=8)
    model = new_model("distilbert", tokenizer)
    folder = classify.save(model, tmp_path / "model", tokenizer=tokenizer, labels=LABELS)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({"do_lower_case": True}))
    tasks.load_model(folder).tokenizer.save(tmp_path / "again")
    settings = json.loads((tmp_path / "again/tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "DistilBertTokenizer"
