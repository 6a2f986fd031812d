"""Fine-tuned checkpoints of google-research/bert: each head becomes a task's model, with labels."""

import json
from pathlib import Path

import needs
import numpy as np
import numpy_bert
import pytest
from small_google import googles, write_checkpoint

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export import load
from tfmodel.model import load_encoder
from tfmodel.model.checkpoints import read_tensors

BATCH = numpy_bert.random_batch()
REAL = BATCH["padding_mask"] > 0
RANDOM = np.random.default_rng(7)
CLASSIFIER = {"output_weights": (3, 16), "output_bias": (3,)}
NUMBER = {"output_weights": (1, 16), "output_bias": (1,)}
ANSWERER = {"cls/squad/output_weights": (2, 16), "cls/squad/output_bias": (2,)}
GAPS = {
    "cls/predictions/transform/dense/kernel": (16, 16),
    "cls/predictions/transform/dense/bias": (16,),
    "cls/predictions/transform/LayerNorm/gamma": (16,),
    "cls/predictions/transform/LayerNorm/beta": (16,),
    "cls/predictions/output_bias": (40,),
    "cls/seq_relationship/output_weights": (2, 16),
    "cls/seq_relationship/output_bias": (2,),
}


@pytest.fixture
def write(tmp_path, tensors):
    """Write a folder as its user has it: a checkpoint with a head and slots of the optimizer."""

    def write(head, *, labels=None, name="model.ckpt-20", **config):
        values = {name: RANDOM.normal(size=shape).astype("f") for name, shape in head.items()}
        theirs = dict(googles(name, value) for name, value in tensors.items()) | values
        for each in ("bert/pooler/dense/kernel", *values):
            theirs |= {f"{each}/{slot}": theirs[each] * 0 for slot in ("adam_m", "adam_v")}
        write_checkpoint(tmp_path, theirs | {"global_step": np.array(20)}, name=name)
        own = ("model_type", "pad_token_id", "architectures", "layer_norm_eps")
        shape = {key: value for key, value in numpy_bert.CONFIG.items() if key not in own}
        (tmp_path / "bert_config.json").write_text(json.dumps({**shape, **config}))
        (tmp_path / "vocab.txt").write_text("\n".join(numpy_bert.PIECES) + "\n")
        if labels is not None:
            (tmp_path / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
        return tmp_path, values

    return write


def test_a_classifier_with_its_labels(write, tensors, caplog):
    more = {"tfmodel": {"has_pairs": True, "max_length": 10}}
    folder, head = write(CLASSIFIER, labels=["no", "maybe", "yes"], **more)
    loaded = tasks.load_model(folder)
    assert (loaded.task, loaded.labels) == ("classify", ["no", "maybe", "yes"])
    assert (loaded.has_pairs, loaded.max_length) == (True, 10)
    pooled = numpy_bert.run_bert(tensors, BATCH)["pooled"]
    wanted = pooled @ head["output_weights"].T + head["output_bias"]
    np.testing.assert_allclose(loaded.model(BATCH), wanted, atol=1e-5)
    assert not [record for record in caplog.records if record.name.startswith("tfmodel")]


def test_one_output_is_a_number_and_a_config_may_say_more(write):
    folder, _ = write(NUMBER)
    assert tasks.load_model(folder).task == "regress"
    names = {str(index): label for index, label in enumerate(["a", "b", "c"])}
    more = {"id2label": names, "problem_type": "multi_label_classification"}
    folder, _ = write(CLASSIFIER, **more)
    loaded = tasks.load_model(folder)
    assert (loaded.task, loaded.labels) == ("multilabel", ["a", "b", "c"])


def test_a_tagger_of_another_script_is_named_by_the_config(write):
    tags = {"output_weights": (3, 16), "output_bias": (3,)}
    folder, _ = write(
        tags, labels=["O", "B-X", "I-X"], architectures=["BertForTokenClassification"]
    )
    loaded = tasks.load_model(folder)
    assert (loaded.task, loaded.labels) == ("tag", ["O", "B-X", "I-X"])


def test_an_answerer(write, tensors):
    folder, head = write(ANSWERER)
    loaded = tasks.load_model(folder)
    assert (loaded.task, loaded.labels, loaded.has_pairs) == ("span", ["start", "end"], True)
    hidden = np.concatenate(numpy_bert.run_bert(tensors, BATCH)["sequence"])
    wanted = hidden @ head["cls/squad/output_weights"].T + head["cls/squad/output_bias"]
    np.testing.assert_allclose(loaded.model(BATCH).numpy()[REAL], wanted, atol=1e-5)


def gap_logits(hidden, head, table):
    """Devlin et al. 2018, `get_masked_lm_output` of run_pretraining.py."""
    dense, norm = "cls/predictions/transform/dense", "cls/predictions/transform/LayerNorm"
    found = numpy_bert.gelu(hidden @ head[f"{dense}/kernel"] + head[f"{dense}/bias"])
    found -= found.mean(-1, keepdims=True)
    found /= np.sqrt(found.var(-1, keepdims=True) + 1e-12)
    found = found * head[f"{norm}/gamma"] + head[f"{norm}/beta"]
    return found @ table.T + head["cls/predictions/output_bias"]


def test_a_model_that_fills_gaps(write, tensors):
    folder, head = write(GAPS, name="bert_model.ckpt")
    loaded = tasks.load_model(folder)
    assert loaded.task == "fill"
    positions = np.array([[3, 1], [2, 4], [0, 0], [5, 6]], np.int32)
    rows = numpy_bert.run_bert(tensors, BATCH)["sequence"]
    hidden = np.stack([row[places] for row, places in zip(rows, positions, strict=True)])
    wanted = gap_logits(hidden, head, tensors["embeddings.word_embeddings.weight"])
    given = loaded.model({**BATCH, "masked_positions": positions})
    np.testing.assert_allclose(given, wanted, atol=1e-5)


def test_the_newest_of_a_training_is_taken(write, tmp_path):
    write(NUMBER, name="model.ckpt-10")
    folder, head = write(NUMBER, name="model.ckpt-20")
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "/far/away/model.ckpt-20"\n'
        'all_model_checkpoint_paths: "/far/away/model.ckpt-10"\n'
    )
    found = read_tensors(folder)["classifier.weight"]
    np.testing.assert_array_equal(found, head["output_weights"])
    # What it began from may stand in the same folder.
    write(GAPS, name="bert_model.ckpt")
    found = read_tensors(folder)["classifier.weight"]
    np.testing.assert_array_equal(found, head["output_weights"])
    (tmp_path / "checkpoint").unlink()
    assert "classifier.weight" not in read_tensors(folder)


@pytest.mark.slow
def test_a_folder_is_asked_as_it_is(write, tmp_path, tfmodel):
    folder, _ = write(CLASSIFIER, labels=["no", "maybe", "yes"], tfmodel={"has_pairs": True})
    (answer,) = load(folder).predict(["a b"], ["c d"])
    assert [*answer["scores"]] == ["no", "maybe", "yes"]
    (tmp_path / "labels.txt").unlink()
    folder, _ = write(GAPS)
    done = tfmodel("predict", str(folder), "a [MASK] b")
    assert done.code == 0, done.err
    assert len(json.loads(done.out)["gaps"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "name", "auto"),
    [
        (CLASSIFIER, "classify", "AutoModelForSequenceClassification"),
        (ANSWERER, "span", "AutoModelForQuestionAnswering"),
    ],
)
def test_transformers_answers_alike(write, tmp_path, head, name, auto):
    transformers, torch = needs.package("transformers"), needs.package("torch")
    folder, _ = write(head, labels=["a", "b", "c"])
    loaded, task = tasks.load_model(folder), tasks.find(name)
    task.save(loaded.model, tmp_path / "ours", tokenizer=loaded.tokenizer, labels=loaded.labels)
    theirs = getattr(transformers, auto).from_pretrained(tmp_path / "ours")
    names = {"input_ids": "token_ids", "attention_mask": "padding_mask"}
    names |= {"token_type_ids": "segment_ids"}
    inputs = {key: torch.tensor(BATCH[each].astype(np.int64)) for key, each in names.items()}
    with torch.no_grad():
        found = theirs(**inputs)
    if name == "span":
        wanted = np.stack([found.start_logits, found.end_logits], axis=-1)[REAL]
        np.testing.assert_allclose(loaded.model(BATCH).numpy()[REAL], wanted, atol=1e-5)
    else:
        np.testing.assert_allclose(loaded.model(BATCH), found.logits, atol=1e-5)


# --- mistakes -----------------------------------------------------------------------------


def test_without_labels_it_is_said_what_to_write(write):
    folder, _ = write(CLASSIFIER)
    load_encoder(folder)  # needs none
    with pytest.raises(ConfigError) as told:
        load(folder)
    for part in (
        "expected the names of the 3 labels, one for each row of output_weights",
        "Received: none",
        f"{folder / 'labels.txt'}, one a line, in the order of get_labels()",
        '"tfmodel": {"has_pairs": true, "max_length": 128}',
    ):
        assert part in str(told.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["no", "yes"], r"the names of the 3 labels.*Received: 2 \(no, yes\)"),
        (["a", "b", "a"], r"labels.txt: expected one label a line.*Received: 'a' twice"),
        (["a", "", "b"], "Received: an empty line. Write one for each output"),
        (["caf\udce9"], "labels.txt: expected UTF-8 text"),
    ],
)
def test_other_labels(write, labels, message):
    folder, _ = write(CLASSIFIER)
    text = "".join(f"{label}\n" for label in labels)
    Path(folder, "labels.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=message):
        tasks.load_model(folder)


def test_a_head_that_is_not_there(write):
    folder, _ = write({})
    with pytest.raises(ConfigError, match=r"expected a fine-tuned model .*Received: BertModel"):
        tasks.load_model(folder)
    with pytest.raises(
        ConfigError,
        match="a classification head of run_classifier.py. Received: no output_weights",
    ):
        tasks.classify.load(folder)
    with pytest.raises(ConfigError, match="of run_squad.py. Received: no cls/squad/output_weights"):
        tasks.span.load(folder)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            {"output_weights": (3, 8), "output_bias": (3,)},
            r"a head on 16 values. Received: output_weights \(3, 8\), output_bias \(3,\)",
        ),
        ({"output_weights": (3, 16)}, "of run_classifier.py. Received: no output_bias"),
        (
            {"cls/squad/output_weights": (3, 16), "cls/squad/output_bias": (3,)},
            "the first and the last token of an answer, 2 outputs. Received: 3 outputs",
        ),
    ],
)
def test_heads_of_other_shapes(write, head, message):
    folder, _ = write(head, labels=["a", "b", "c"])
    with pytest.raises(ConfigError, match=message):
        tasks.load_model(folder)
