"""Encoders of BERT's family against transformers in torch: random ones of its classes, and back.

Needs the extra `parity`.
"""

import needs
import numpy as np
import pytest

from tfmodel.model import encoder_config, load_encoder, save_encoder

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5
SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
ROBERTA = {**SMALL, "max_position_embeddings": 42, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
DISTILBERT = {
    "vocab_size": 300,
    "dim": 32,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 48,
    "max_position_embeddings": 40,
}
ALBERT = {**SMALL, "embedding_size": 8}
# name: (how its classes begin, config, what a classification head makes of the first token)
FAMILIES = {
    "bert": ("Bert", SMALL),
    "distilbert": ("DistilBert", DISTILBERT),
    "distilbert, relu": ("DistilBert", {**DISTILBERT, "activation": "relu"}),
    "electra": ("Electra", {**SMALL, "embedding_size": 8}),
    "electra of one width": ("Electra", {**SMALL, "embedding_size": 32}),
    "roberta": ("Roberta", ROBERTA),
    "roberta of two segments": ("Roberta", {**ROBERTA, "type_vocab_size": 2}),
    "xlm-roberta": ("XLMRoberta", ROBERTA),
    "albert": ("Albert", ALBERT),
    "albert of two groups": ("Albert", {**ALBERT, "num_hidden_groups": 2}),
    "albert of three groups": ("Albert", {**ALBERT, "num_hidden_groups": 3}),
    "albert of one width": ("Albert", {**ALBERT, "embedding_size": 32, "num_hidden_groups": 4}),
}


@pytest.fixture(scope="module")
def transformers():
    needs.package("torch")
    module = needs.package("transformers")
    module.logging.set_verbosity_error()
    module.utils.logging.disable_progress_bar()
    return module


def make(transformers, name, kind, *, seed=0):
    """A model of transformers with random weights, biases and norms included."""
    import torch

    begin, values = FAMILIES[name]
    config = getattr(transformers, f"{begin}Config")(**values, num_labels=3)
    torch.manual_seed(seed)
    model = getattr(transformers, f"{begin}{kind}")(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    real = np.arange(40) < np.array([40, 25, 2, 17])[:, None]
    return {
        "token_ids": random.integers(5, 300, (4, 40)).astype(np.int32),
        "segment_ids": ((np.arange(40) > 12) & real).astype(np.int32),
        "padding_mask": real.astype(np.int32),
    }


def ask_torch(model, batch, *, segments):
    import torch

    padding = model.config.pad_token_id
    ids = np.where(batch["padding_mask"] > 0, batch["token_ids"], padding)
    given = {"input_ids": ids, "attention_mask": batch["padding_mask"]}
    if segments:
        given["token_type_ids"] = batch["segment_ids"]
    with torch.no_grad():
        return model(**{name: torch.tensor(value).long() for name, value in given.items()})


def largest(ours, theirs):
    return float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_an_encoder_and_back(transformers, tmp_path, batch, name, safe):
    import torch

    model = make(transformers, name, "Model")
    model.save_pretrained(tmp_path / "theirs")
    if not safe:
        (tmp_path / "theirs/model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "theirs/pytorch_model.bin")
    encoder = load_encoder(tmp_path / "theirs")
    segments = encoder_config(encoder).segments > 1
    if not segments:
        batch["segment_ids"][:] = 0
    expected = ask_torch(model, batch, segments=segments)
    real = batch["padding_mask"] == 1
    found = encoder(batch)
    difference = largest(found["sequence"].numpy()[real], expected.last_hidden_state[real])
    print(f"{name}: largest difference of a hidden state {difference:.1e}")
    assert difference < TOLERANCE
    if getattr(expected, "pooler_output", None) is not None:
        assert largest(found["pooled"], expected.pooler_output) < TOLERANCE

    saved = save_encoder(encoder, tmp_path / "ours")
    again, info = transformers.AutoModel.from_pretrained(saved, output_loading_info=True)
    assert type(again) is type(model)
    assert not info["missing_keys"] and not info["mismatched_keys"]
    others = ask_torch(again.eval(), batch, segments=segments)
    assert torch.equal(others.last_hidden_state[real], expected.last_hidden_state[real])


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_texts_are_each_as_if_alone(transformers, tmp_path, name):
    model = make(transformers, name, "Model")
    model.save_pretrained(tmp_path / "theirs")
    encoder = load_encoder(tmp_path / "theirs")
    random = np.random.default_rng(1)
    texts = [random.integers(5, 300, length).astype(np.int32) for length in (9, 17, 5)]
    ids = np.concatenate([*texts, np.full(4, 7, np.int32)])[None]
    mask = np.repeat([1, 2, 3, 0], [9, 17, 5, 4]).astype(np.int32)[None]
    packed = {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": mask}
    found = encoder(packed)["sequence"].numpy()[0]
    for number, text in enumerate(texts, 1):
        alone = {"token_ids": text[None], "padding_mask": np.ones((1, len(text)), np.int32)}
        theirs = ask_torch(model, alone, segments=False).last_hidden_state[0]
        assert largest(found[mask[0] == number], theirs) < TOLERANCE


@pytest.mark.parametrize("name", FAMILIES)
def test_pooled_is_what_the_classification_head_stands_on(transformers, tmp_path, batch, name):
    from tfmodel.model.checkpoints import read_tensors
    from tfmodel.model.families import FAMILIES as OURS

    model = make(transformers, name, "ForSequenceClassification")
    model.save_pretrained(tmp_path / "theirs")
    encoder = load_encoder(tmp_path / "theirs", sequence=False)
    segments = encoder_config(encoder).segments > 1
    if not segments:
        batch["segment_ids"][:] = 0
    tensors = read_tensors(tmp_path / "theirs")
    head = OURS[encoder_config(encoder).family].classifier
    logits = encoder(batch)["pooled"] @ tensors[f"{head}.weight"].T + tensors[f"{head}.bias"]
    assert largest(logits, ask_torch(model, batch, segments=segments).logits) < TOLERANCE


@pytest.mark.parametrize("name", FAMILIES)
def test_a_masked_language_model_has_the_encoder(transformers, tmp_path, batch, name, caplog):
    model = make(transformers, name, "ForMaskedLM")
    model.save_pretrained(tmp_path / "theirs")
    encoder = load_encoder(tmp_path / "theirs")
    assert all("not used" not in record.getMessage() for record in caplog.records)
    segments = encoder_config(encoder).segments > 1
    if not segments:
        batch["segment_ids"][:] = 0
    base = getattr(model, model.base_model_prefix)
    real = batch["padding_mask"] == 1
    expected = ask_torch(base, batch, segments=segments).last_hidden_state
    assert largest(encoder(batch)["sequence"].numpy()[real], expected[real]) < TOLERANCE


@pytest.mark.parametrize("name", ["bert", "albert"])
def test_several_files_of_transformers(transformers, tmp_path, batch, name):
    model = make(transformers, name, "Model")
    model.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert (tmp_path / "theirs/model.safetensors.index.json").exists()
    expected = ask_torch(model, batch, segments=True)
    found = load_encoder(tmp_path / "theirs")(batch)
    assert largest(found["pooled"], expected.pooler_output) < TOLERANCE
