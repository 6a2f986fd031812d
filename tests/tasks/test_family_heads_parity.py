"""Fine-tuned models of transformers become ours: labels, tokens and answers.

Needs the extra `parity`.
"""

import json
import re

import needs
import numpy as np
import pytest
import small_families

from tfmodel import tasks
from tfmodel.export import load
from tfmodel.tasks.classify import probabilities
from tfmodel.tokens import Tokenizer, Vocabulary

pytestmark = pytest.mark.slow

TEXTS = ["the storm was on monday", "", "bank profit", "Goal! Café après-ski", "new new new " * 20]
PAIRS = ["rain", "the bank said", "", "match after match", "coach"]


@pytest.fixture(scope="module")
def libraries():
    torch, transformers = needs.package("torch"), needs.package("transformers")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def write_theirs(libraries, folder, family, *, kind="SequenceClassification", **head):
    """A random model of transformers' own class, saved by it, with a tokenizer beside it."""
    torch, transformers = libraries
    tokenizer = small_families.tokenizer_of(family)
    shape = small_families.shape_of(family, len(tokenizer.vocabulary))
    values = {**shape.to_huggingface(), **head}
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    torch.manual_seed(0)
    model = getattr(transformers, f"AutoModelFor{kind}").from_config(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return model


def ask_theirs(libraries, folder, model, pairs=None):
    torch, transformers = libraries
    splitter = transformers.AutoTokenizer.from_pretrained(folder)
    asked = splitter(
        TEXTS, pairs, padding=True, truncation=True, max_length=48, return_tensors="pt"
    )
    with torch.no_grad():
        given = model(**asked)
    if "start_logits" in given:
        return np.stack([given.start_logits, given.end_logits], axis=-1)
    return given.logits.numpy()


@pytest.mark.parametrize("family", small_families.SHAPES)
def test_a_classifier_with_its_labels(libraries, tmp_path, family):
    labels = ["no", "ja, 是", "maybe"]
    named = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    model = write_theirs(libraries, tmp_path, family, **named)
    wanted = ask_theirs(libraries, tmp_path, model)
    loaded = tasks.load_model(tmp_path)
    assert (loaded.task, loaded.labels, loaded.max_length) == ("classify", labels, 48)
    given = loaded.model(loaded.tokenizer(TEXTS), training=False)
    print(f"{family}: largest difference of a logit {np.abs(given - wanted).max():.1e}")
    np.testing.assert_allclose(given, wanted, atol=1e-5)
    answers = load(tmp_path).predict(TEXTS)
    scores = [[answer["scores"][label] for label in labels] for answer in answers]
    np.testing.assert_allclose(scores, probabilities(wanted), atol=1e-5)


@pytest.mark.parametrize("family", small_families.SHAPES)
def test_pairs_are_joined_as_theirs_are(libraries, tmp_path, family):
    model = write_theirs(libraries, tmp_path, family, num_labels=2)
    wanted = ask_theirs(libraries, tmp_path, model, PAIRS)
    loaded = tasks.load_model(tmp_path)
    given = loaded.model(loaded.tokenizer(TEXTS, PAIRS), training=False)
    np.testing.assert_allclose(given, wanted, atol=1e-5)


@pytest.mark.parametrize("family", small_families.SHAPES)
@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("regress", {"num_labels": 1}),
        ("multilabel", {"num_labels": 3, "problem_type": "multi_label_classification"}),
    ],
)
def test_other_heads(libraries, tmp_path, family, task, head):
    model = write_theirs(libraries, tmp_path, family, **head)
    loaded = tasks.load_model(tmp_path)
    assert loaded.task == task
    given = loaded.model(loaded.tokenizer(TEXTS), training=False)
    np.testing.assert_allclose(given, ask_theirs(libraries, tmp_path, model), atol=1e-5)


@pytest.mark.parametrize("family", small_families.SHAPES)
def test_tags_of_words_come_in_and_go_out(libraries, tmp_path, family):
    labels = dict(enumerate(["O", "B-place", "I-place"]))
    model = write_theirs(libraries, tmp_path, family, kind="TokenClassification", id2label=labels)
    loaded = tasks.load_model(tmp_path)
    assert (loaded.task, loaded.labels) == ("tag", [*labels.values()])
    batch = loaded.tokenizer(TEXTS)
    given = loaded.model(batch, training=False).numpy()
    wanted = ask_theirs(libraries, tmp_path, model)
    real = batch["padding_mask"].numpy() == 1
    np.testing.assert_allclose(given[real], wanted[real], atol=1e-5)
    again = saved_again(libraries, tmp_path / "ours", loaded, kind="TokenClassification")
    assert type(again) is type(model)
    given = ask_theirs(libraries, tmp_path / "ours", again)
    np.testing.assert_allclose(given[real], wanted[real], atol=1e-6)


@pytest.mark.parametrize("family", small_families.SHAPES)
def test_answers_to_questions_come_in_and_go_out(libraries, tmp_path, family):
    model = write_theirs(libraries, tmp_path, family, kind="QuestionAnswering")
    loaded = tasks.load_model(tmp_path)
    assert (loaded.task, loaded.has_pairs) == ("span", True)
    batch = loaded.tokenizer(TEXTS, PAIRS)
    given = loaded.model(batch, training=False).numpy()
    wanted = ask_theirs(libraries, tmp_path, model, PAIRS)
    real = batch["padding_mask"].numpy() == 1
    np.testing.assert_allclose(given[real], wanted[real], atol=1e-5)
    again = saved_again(libraries, tmp_path / "ours", loaded, kind="QuestionAnswering")
    assert type(again) is type(model)
    given = ask_theirs(libraries, tmp_path / "ours", again, PAIRS)
    np.testing.assert_allclose(given[real], wanted[real], atol=1e-6)


@pytest.mark.parametrize("family", small_families.SHAPES)
def test_masked_words_come_in_and_go_out(libraries, tmp_path, family):
    torch, transformers = libraries
    width = {"embedding_size": 128} if family == "albert" else {}  # another than the hidden size
    model = write_theirs(libraries, tmp_path / "theirs", family, kind="MaskedLM", **width)
    loaded = tasks.load_model(tmp_path / "theirs")
    assert loaded.task == "fill"
    gap = loaded.tokenizer.vocabulary.special["mask"]
    texts = [f"the {gap} was on monday", f"{gap} bank {gap}, profit {gap}.", f"Café!  {gap}\n"]
    inputs, gaps = tasks.find("fill").batch(texts, loaded.tokenizer)
    ours = loaded.model(inputs).numpy()
    saved = tasks.find("fill").save(loaded.model, tmp_path / "ours", tokenizer=loaded.tokenizer)
    again, told = transformers.AutoModelForMaskedLM.from_pretrained(saved, output_loading_info=True)
    assert type(again) is type(model)
    assert not told["missing_keys"] and not told["mismatched_keys"]
    for folder, theirs in ((tmp_path / "theirs", model), (saved, again.eval())):
        splitter = transformers.AutoTokenizer.from_pretrained(folder)
        asked = splitter(texts, padding=True, return_tensors="pt")
        np.testing.assert_array_equal(asked["input_ids"], inputs["token_ids"])
        with torch.no_grad():
            logits = theirs(**asked).logits.numpy()
        wanted = np.take_along_axis(logits, inputs["masked_positions"][..., None], axis=1)
        largest = max(1, np.abs(wanted).max())
        for row, count in enumerate(gaps):
            given, due = ours[row, :count], wanted[row, :count]
            np.testing.assert_allclose(given, due, atol=1e-5 * largest)
    answers = load(saved).predict(texts)
    found = transformers.pipeline("fill-mask", model=str(saved), top_k=5)(texts[0])
    given = answers[0]["gaps"][0]
    # A part of a character has a name of its own here, and none there.
    tokens = [re.sub("(<0x..>)+", "\N{REPLACEMENT CHARACTER}", each["token"]) for each in given]
    assert [each.strip() for each in tokens] == [each["token_str"].strip() for each in found]
    scores = [each["score"] for each in found]
    np.testing.assert_allclose([each["score"] for each in given], scores, atol=1e-5)
    assert not any(gap in answer["filled"] for answer in answers)


@pytest.mark.parametrize("family", small_families.SHAPES)
def test_vectors_of_sentence_transformers(libraries, tmp_path, family):
    torch, _ = libraries
    sentence_transformers = needs.package("sentence_transformers")
    write_theirs(libraries, tmp_path / "theirs", family)
    loaded = tasks.embed.load(tmp_path / "theirs")  # of the encoder below another head
    tasks.embed.save(loaded.model, tmp_path / "ours", tokenizer=loaded.tokenizer)
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    wanted = theirs.encode(TEXTS)
    given = loaded.model(loaded.tokenizer(TEXTS), training=False)
    np.testing.assert_allclose(given, wanted, atol=1e-5)
    theirs.save(str(tmp_path / "again"))
    again = tasks.load_model(tmp_path / "again")
    assert again.task == "embed"
    np.testing.assert_allclose(again.model(again.tokenizer(TEXTS)), wanted, atol=1e-5)


@pytest.mark.parametrize("family", small_families.SHAPES)
def test_files_of_pytorch_in_parts_are_read(libraries, tmp_path, family):
    """As older folders are: `pytorch_model.bin`, whole or with an index of several."""
    torch, _ = libraries
    model = write_theirs(libraries, tmp_path, family, num_labels=3)
    wanted = ask_theirs(libraries, tmp_path, model)
    (tmp_path / "model.safetensors").unlink()
    weights = model.state_dict()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    texts = tasks.load_model(tmp_path).tokenizer(TEXTS)
    given = tasks.load_model(tmp_path).model(texts, training=False)
    np.testing.assert_allclose(given, wanted, atol=1e-5)
    (tmp_path / "pytorch_model.bin").unlink()
    files = {}
    for number, (name, value) in enumerate(weights.items()):
        files.setdefault(f"pytorch_model-0000{1 + number % 2}-of-00002.bin", {})[name] = value
    for file, held in files.items():
        torch.save(held, tmp_path / file)
    index = {"weight_map": {name: file for file, held in files.items() for name in held}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    given = tasks.load_model(tmp_path).model(texts, training=False)
    np.testing.assert_allclose(given, wanted, atol=1e-5)


def saved_again(libraries, folder, loaded, *, kind):
    """What transformers makes of the folder that we write of a model, with nothing missing."""
    _, transformers = libraries
    tasks.find(loaded.task).save(
        loaded.model, folder, tokenizer=loaded.tokenizer, labels=loaded.labels
    )
    model, told = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(told[each] for each in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


@pytest.mark.parametrize("family", small_families.SHAPES)
def test_what_we_save_of_it_is_theirs_again(libraries, tmp_path, family):
    torch, transformers = libraries
    model = write_theirs(libraries, tmp_path / "theirs", family, num_labels=3)
    loaded = tasks.load_model(tmp_path / "theirs")
    saved = tasks.classify.save(
        loaded.model, tmp_path / "ours", tokenizer=loaded.tokenizer, labels=loaded.labels
    )
    again, told = transformers.AutoModelForSequenceClassification.from_pretrained(
        saved, output_loading_info=True
    )
    assert type(again) is type(model)
    assert not any(told[each] for each in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    wanted = ask_theirs(libraries, saved, model)
    given = ask_theirs(libraries, saved, again.eval())
    np.testing.assert_allclose(given, wanted, atol=1e-6)
    for name in ("seq_classif_dropout", "classifier_dropout"):  # the share is theirs, too
        ours, theirs = (getattr(each.config, name, None) for each in (again, model))
        assert theirs is None or ours == pytest.approx(theirs)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_a_multilingual_bert(libraries, tmp_path, kind):
    """Cased WordPieces of many scripts; or a BERT with XLM-RoBERTa's tokenizer."""
    torch, transformers = libraries
    tokenizer = small_families.tokenizer_of("xlm-roberta")
    if kind == "wordpiece":
        words = ["Café", "##s", "Привет", "##ет", "नमस्ते", "电", "影", "ß", "é", "Goal", "!", "new"]
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        tokenizer = Tokenizer(Vocabulary([*special, *words]), lowercase=False, max_length=48)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer.vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=48,
        num_labels=3,
        pad_token_id=tokenizer.vocabulary.padding_id,
    )
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    texts = ["Cafés Привет नमस्ते", "电影 Goal!", "café ß new é", ""]
    splitter = transformers.AutoTokenizer.from_pretrained(tmp_path)
    asked = splitter(texts, padding=True, return_tensors="pt")
    loaded = tasks.load_model(tmp_path)
    assert loaded.tokenizer.kind == kind and not loaded.tokenizer.lowercase
    batch = loaded.tokenizer(texts)
    np.testing.assert_array_equal(asked["input_ids"], batch["token_ids"])
    with torch.no_grad():
        wanted = model(**asked).logits.numpy()
    np.testing.assert_allclose(loaded.model(batch, training=False), wanted, atol=1e-5)
