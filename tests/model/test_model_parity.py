"""Our hidden states against transformers in torch: real weights, random ones, and back again.

Needs the extra `parity` and, for the real weights, a package index or a filled cache.
"""

import logging

import needs
import numpy as np
import pytest

from tfmodel.model import BertConfig, build_encoder, load_encoder, save_encoder
from tfmodel.tasks import classify
from tfmodel.tokens import Tokenizer, Vocabulary

pytestmark = pytest.mark.slow

TEXTS = [
    "Shares in the company fell sharply on Monday, after a profit warning.",
    "The striker scored twice.",
    "Café, naïve, 100% & co. — “quoted”…",
    "It is a truth universally acknowledged that a single man in possession of a good fortune, "
    "must be in want of a wife. However little known the feelings or views of such a man may be.",
    "",
]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def transformers():
    needs.package("torch")
    module = needs.package("transformers")
    module.logging.set_verbosity_error()
    module.utils.logging.disable_progress_bar()
    return module


def ask_torch(model, batch) -> dict:
    import torch

    names = {
        "input_ids": "token_ids",
        "token_type_ids": "segment_ids",
        "attention_mask": "padding_mask",
    }
    model.eval()
    with torch.no_grad():
        return model(**{k: torch.tensor(np.asarray(batch[v])).long() for k, v in names.items()})


def assert_same_states(ours, theirs, batch):
    real = np.asarray(batch["padding_mask"]) == 1
    difference = np.abs(ours["sequence"] - theirs.last_hidden_state.numpy())[real].max()
    print(f"largest difference of a hidden state: {difference:.1e}")
    assert difference < TOLERANCE
    if theirs.pooler_output is not None:
        pooled = np.abs(ours["pooled"] - theirs.pooler_output.numpy()).max()
        print(f"largest difference of a pooled value: {pooled:.1e}")
        assert pooled < TOLERANCE


def test_minilm(transformers, tmp_path):
    folder = needs.fetched(needs.MINILM)
    tokenizer = Tokenizer.from_folder(folder, max_length=128)
    batch = tokenizer(TEXTS, TEXTS[::-1])
    encoder = load_encoder(folder)
    theirs = ask_torch(transformers.BertModel.from_pretrained(folder), batch)
    assert_same_states(encoder(batch), theirs, batch)

    saved = save_encoder(encoder, tmp_path / "saved", tokenizer=tokenizer)
    again = ask_torch(transformers.AutoModel.from_pretrained(saved), batch)
    np.testing.assert_array_equal(again.last_hidden_state, theirs.last_hidden_state)
    np.testing.assert_array_equal(again.pooler_output, theirs.pooler_output)


def test_bert_tiny_with_old_names_and_no_pooler(transformers, caplog):
    folder = needs.fetched(needs.BERT_TINY)
    assert not (folder / "vocab.txt").exists()
    batch = Tokenizer.from_folder(folder, max_length=128)(TEXTS)
    with caplog.at_level(logging.WARNING, "tfmodel"):
        encoder = load_encoder(folder)
    assert "no weights for the pooler" in caplog.text
    theirs = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False)
    assert_same_states(encoder(batch), ask_torch(theirs, batch), batch)


@pytest.fixture
def chinese(transformers, tmp_path):
    """A random BERT of 21,128 pieces, as transformers saves it."""
    import torch

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=21_128, hidden_size=256, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=1_024, num_labels=3, id2label={0: "体育", 1: "财经", 2: "其他"},
        label2id={"体育": 0, "财经": 1, "其他": 2}, initializer_range=0.08,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "LayerNorm" in name:  # new ones are all 0 or 1
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "theirs")
    return model


@pytest.fixture
def chinese_batch():
    random = np.random.default_rng(0)
    ids = random.integers(0, 21_128, (4, 64)).astype(np.int32)
    real = np.arange(64) < np.array([64, 40, 2, 17])[:, None]
    segments = (np.arange(64) > 20) & real
    return {
        "token_ids": ids,
        "segment_ids": segments.astype(np.int32),
        "padding_mask": real.astype(np.int32),
    }


def test_a_random_chinese_bert(chinese, chinese_batch, tmp_path):
    theirs = ask_torch(chinese.bert, chinese_batch)
    assert_same_states(load_encoder(tmp_path / "theirs")(chinese_batch), theirs, chinese_batch)


def test_a_classifier_of_transformers_and_back(transformers, chinese, chinese_batch, tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(21_123))]
    Tokenizer(Vocabulary(pieces)).save(tmp_path / "theirs")
    loaded = classify.load(tmp_path / "theirs")
    assert loaded.labels == ["体育", "财经", "其他"]
    expected = ask_torch(chinese, chinese_batch).logits.numpy()
    np.testing.assert_allclose(loaded.model(chinese_batch), expected, atol=TOLERANCE)

    classify.save(loaded.model, tmp_path / "ours", tokenizer=loaded.tokenizer, labels=loaded.labels)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours")
    assert type(again).__name__ == "BertForSequenceClassification"
    assert again.config.id2label == {0: "体育", 1: "财经", 2: "其他"}
    assert again.config.label2id == {"体育": 0, "财经": 1, "其他": 2}
    assert again.config.problem_type == "single_label_classification"
    np.testing.assert_array_equal(ask_torch(again, chinese_batch).logits, expected)


def test_a_new_encoder_of_ours_in_torch(transformers, tmp_path, chinese_batch):
    config = BertConfig(
        vocabulary_size=21_128, hidden_size=64, layers=3, heads=8, intermediate_size=96,
        max_positions=64, activation="gelu_new", layer_norm_epsilon=1e-6,
    )  # fmt: skip
    encoder = build_encoder(config)
    random = np.random.default_rng(0)
    for weight in encoder.trainable_weights:
        weight.assign_add(random.normal(size=weight.shape, scale=0.05).astype(np.float32))
    save_encoder(encoder, tmp_path / "ours")
    theirs = transformers.BertModel.from_pretrained(tmp_path / "ours")
    assert theirs.config.hidden_act == "gelu_new"
    assert_same_states(encoder(chinese_batch), ask_torch(theirs, chinese_batch), chinese_batch)
