"""SavedModels: what TF Serving finds, and what it answers."""

import json
import math
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tfmodel.config import ConfigError
from tfmodel.export import export_savedmodel, savedmodel
from tfmodel.export.savedmodel import mixed_precision
from tfmodel.model.encoder import build_encoder, encoder_config
from tfmodel.tasks import classify

MAX_LENGTH = 16


@pytest.fixture(scope="module")
def served(exported):
    return tf.saved_model.load(str(exported / "savedmodel/1"))


@pytest.fixture(scope="module")
def served_pairs(tiny_pairs, tmp_path_factory):
    base = tmp_path_factory.mktemp("pairs")
    folder = export_savedmodel(tiny_pairs.model, tiny_pairs.tokenizer, base, **tiny_pairs.described)
    return tf.saved_model.load(str(folder))


def test_texts_get_the_scores_of_the_keras_model(served, tiny):
    answer = served.signatures["serving_default"](text=tf.constant(tiny.texts))
    assert set(answer) == {"label", "score", "scores"}
    np.testing.assert_allclose(answer["scores"], tiny.scores, atol=1e-5)
    np.testing.assert_allclose(answer["score"], tiny.scores.max(axis=1), atol=1e-5)
    labels = [tiny.described["labels"][best] for best in tiny.scores.argmax(axis=1)]
    assert [label.decode() for label in answer["label"].numpy()] == labels
    assert len(set(labels)) == 3


def test_ids_get_the_same_answer(served, tiny):
    batch = tiny.tokenizer(tiny.texts)
    answer = served.signatures["ids"](**batch)
    np.testing.assert_allclose(answer["scores"], tiny.scores, atol=1e-5)
    assert set(answer) == {"label", "score", "scores"}


def test_pairs(served_pairs, tiny_pairs):
    answer = served_pairs.signatures["serving_default"](
        text=tf.constant(tiny_pairs.texts), text_pair=tf.constant(tiny_pairs.text_pairs)
    )
    np.testing.assert_allclose(answer["scores"], tiny_pairs.scores, atol=1e-5)
    swapped = served_pairs.signatures["serving_default"](
        text=tf.constant(tiny_pairs.text_pairs), text_pair=tf.constant(tiny_pairs.texts)
    )
    assert np.abs(swapped["scores"] - tiny_pairs.scores).max() > 0.01


@pytest.mark.parametrize(
    ("labels", "received"),
    [([0, 1, 2], "0"), (["a", "b", "a"], "'a' twice"), (["a", " ", "c"], "' '")],
)
def test_labels_that_are_no_names_are_refused(tiny, tmp_path, labels, received):
    described = {**tiny.described, "labels": labels}
    with pytest.raises(ConfigError, match=f"names, each once.*Received: {received}"):
        export_savedmodel(tiny.model, tiny.tokenizer, tmp_path, **described)


@pytest.mark.parametrize("texts", [[""], ["", "good"], ["  \n "], ["好 坏\u0000 \U0001f600"]])
def test_odd_texts_are_answered(served, texts):
    answer = served.signatures["serving_default"](text=tf.constant(texts))
    assert answer["scores"].shape == (len(texts), 3)
    np.testing.assert_allclose(tf.reduce_sum(answer["scores"], axis=1), 1, atol=1e-5)


def test_an_empty_batch_gets_an_empty_answer(served, served_pairs):
    nothing = tf.constant([], tf.string)
    assert served.signatures["serving_default"](text=nothing)["scores"].shape == (0, 3)
    answer = served_pairs.signatures["serving_default"](text=nothing, text_pair=nothing)
    assert answer["label"].shape == (0,)
    no_ids = {name: tf.zeros((0, 0), tf.int32) for name in ("token_ids", "segment_ids")}
    no_ids["padding_mask"] = no_ids["token_ids"]
    assert served.signatures["ids"](**no_ids)["score"].shape == (0,)


def test_a_long_text_is_cut(served, tiny):
    long = " ".join(["good"] * 5000)
    answer = served.signatures["serving_default"](text=tf.constant([long]))
    cut = tiny.reference.probabilities([" ".join(["good"] * 14)])
    np.testing.assert_allclose(answer["scores"], cut, atol=1e-5)


def test_a_folder_holds_what_tf_serving_looks_for(exported, tiny):
    version = exported / "savedmodel/1"
    names = {file.name: file.read_text("utf-8") for file in (version / "assets").iterdir()}
    assert names["labels.txt"].split() == tiny.described["labels"]
    assert names["vocab.txt"].split("\n")[:-1] == tiny.tokenizer.vocabulary.pieces
    assert json.loads(names["tfmodel.json"])["max_length"] == 16
    model = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    (meta,) = model.meta_graphs
    assert {asset.filename for asset in meta.asset_file_def} == set(names)
    assert {"serving_default", "max_length", "ids", "vector"} <= set(meta.signature_def)
    assert not [n for s in meta.signature_def.values() for n in s.outputs if "_bytes" in n]


def test_the_graph_draws_no_random_number_and_holds_no_state_of_training(exported):
    pb = (exported / "savedmodel/1/saved_model.pb").read_bytes()
    (meta,) = saved_model_pb2.SavedModel.FromString(pb).meta_graphs
    library = meta.graph_def.library.function
    operations = {node.op for function in library for node in function.node_def}
    operations |= {node.op for node in meta.graph_def.node}
    assert "FastWordpieceTokenizeWithOffsets" in operations
    assert not [op for op in operations if "Random" in op or "Dropout" in op]
    assert "TFText>RoundRobinTrim" not in operations  # unknown before TF Serving 2.20
    variables = tf.train.list_variables(str(exported / "savedmodel/1/variables/variables"))
    weights = [name for name, shape in variables if shape and "OBJECT_GRAPH" not in name]
    assert len(weights) == 3 + 2 + 2 * 12 + 2 + 2
    assert all("weights" in name for name in weights)


def test_warm_up_asks_every_text_signature_in_every_batch_size(tiny_pairs, tmp_path):
    folder = export_savedmodel(
        tiny_pairs.model,
        tiny_pairs.tokenizer,
        tmp_path,
        warmup_texts=["good", "bad movie"],
        **tiny_pairs.described,
    )
    records = tf.data.TFRecordDataset(str(folder / "assets.extra/tf_serving_warmup_requests"))
    requests = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in records
    ]
    asked = [
        (
            request.model_spec.signature_name,
            request.inputs["text"].tensor_shape.dim[0].size,
        )
        for request in requests
    ]
    assert asked == [
        (signature, size)
        for signature in ("serving_default", "max_length", "vector")
        for size in (1, 2, 4, 8, 16, 32)
    ]
    loaded = tf.saved_model.load(str(folder))
    for request in requests:
        inputs = {
            name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()
        }
        answer = loaded.signatures[request.model_spec.signature_name](**inputs)
        assert all(len(values) == len(inputs["text"]) for values in answer.values())
    # Short rows and such as fill the longest one.
    lengths = tiny_pairs.tokenizer([text.decode() for text in inputs["text"].numpy()])
    tokens = lengths["padding_mask"].numpy().sum(axis=1)
    assert tokens.min() < 6 and tokens.max() == MAX_LENGTH


def test_each_row_may_have_a_limit_of_its_own(served, tiny):
    texts = ["good movie the bad was very bad", "good movie the bad was very bad", "good"]
    answer = served.signatures["max_length"](
        text=tf.constant(texts), max_length=tf.constant([4, 99, 1], tf.int32)
    )
    # 99 is more than the model takes, 1 less than a row can be.
    wanted = tiny.reference.probabilities(["good movie", texts[1], "good"])
    np.testing.assert_allclose(answer["scores"], wanted, atol=1e-5)
    assert np.abs(wanted[0] - wanted[1]).max() > 0.01


def test_pairs_with_limits_are_cut_longest_first(served_pairs, tiny_pairs):
    texts, pairs = tiny_pairs.texts, tiny_pairs.text_pairs
    answer = served_pairs.signatures["max_length"](
        text=tf.constant(texts),
        text_pair=tf.constant(pairs),
        max_length=tf.fill([len(texts)], 8),
    )
    batch = tiny_pairs.tokenizer(texts, pairs, max_length=8)
    wanted = tf.nn.softmax(tiny_pairs.model(batch))
    np.testing.assert_allclose(answer["scores"], wanted, atol=1e-5)


def test_the_vector_is_what_the_classes_are_read_from(served, tiny):
    vector = served.signatures["vector"](text=tf.constant(tiny.texts))["vector"]
    wanted = tiny.model.get_layer("encoder")(tiny.tokenizer(tiny.texts))["pooled"]
    np.testing.assert_allclose(vector, wanted, atol=1e-5)
    scores = tf.nn.softmax(tiny.model.get_layer("head")(vector))
    np.testing.assert_allclose(scores, tiny.scores, atol=1e-5)


def test_ids_of_texts_packed_behind_the_first_change_nothing(served, tiny):
    batch = {name: values.numpy() for name, values in tiny.tokenizer(["good", "bad"]).items()}
    packed = {name: np.concatenate([rows[:1], rows[1:]], axis=1) for name, rows in batch.items()}
    packed["padding_mask"][0, batch["token_ids"].shape[1] :] = 2
    answer = served.signatures["ids"](**{name: tf.constant(v) for name, v in packed.items()})
    np.testing.assert_allclose(answer["scores"], tf.nn.softmax(tiny.model(packed)), atol=1e-5)


@pytest.mark.parametrize("longer", ["token_ids", "segment_ids", "padding_mask"])
def test_ids_of_different_shapes_are_refused_not_mixed_up(served, longer):
    batch = {
        name: tf.ones((2, 6 if name == longer else 5), tf.int32)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    with pytest.raises(tf.errors.InvalidArgumentError, match="Shapes of all inputs must match"):
        served.signatures["ids"](**batch)


def test_mixed_precision_halves_the_weights_and_answers_alike(tiny, exported, tmp_path):
    folder = export_savedmodel(
        tiny.model, tiny.tokenizer, tmp_path, precision="mixed_bfloat16", **tiny.described
    )
    answer = tf.saved_model.load(str(folder)).signatures["serving_default"](
        text=tf.constant(tiny.texts)
    )
    assert 1e-6 < np.abs(answer["scores"] - tiny.scores).max() < 0.1
    assert np.mean(np.argmax(answer["scores"], axis=1) == tiny.scores.argmax(axis=1)) > 0.95
    (meta,) = saved_model_pb2.SavedModel.FromString(
        (folder / "saved_model.pb").read_bytes()
    ).meta_graphs
    nodes = [node for function in meta.graph_def.library.function for node in function.node_def]
    kept = [node.attr["value"].tensor for node in nodes if node.op == "Const"]
    halves = sum(
        math.prod(dimension.size for dimension in tensor.tensor_shape.dim)
        for tensor in kept
        if tensor.dtype == tf.bfloat16.as_datatype_enum
    )
    encoder = tiny.model.get_layer("encoder")
    tables = tiny.tokenizer.vocabulary, range(24), range(2)
    assert halves >= encoder.count_params() - 32 * sum(map(len, tables))
    # The tables alone are read as variables: looking rows up gains nothing by constants.
    variables = tf.train.list_variables(str(folder / "variables/variables"))
    assert len([shape for _, shape in variables if len(shape) == 2]) == 3


def test_many_weights_stay_variables_in_mixed_precision(tiny, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(mixed_precision, "MOST_BYTES", 1000)
    folder = export_savedmodel(
        tiny.model, tiny.tokenizer, tmp_path, precision="mixed_bfloat16", **tiny.described
    )
    answer = tf.saved_model.load(str(folder)).signatures["serving_default"](
        text=tf.constant(tiny.texts)
    )
    assert np.abs(answer["scores"] - tiny.scores).max() < 0.1
    variables = tf.train.list_variables(str(folder / "variables/variables"))
    assert len([shape for _, shape in variables if len(shape) == 2]) > 3


def test_mixed_precision_of_a_model_of_ones_own_is_refused(tiny, tmp_path):
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    embedded = keras.layers.Embedding(len(tiny.tokenizer.vocabulary), 8)(inputs["token_ids"])
    logits = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(embedded))
    with pytest.raises(ConfigError, match="made by tfmodel for mixed_bfloat16.*in float32"):
        export_savedmodel(
            keras.Model(inputs, logits),
            tiny.tokenizer,
            tmp_path,
            precision="mixed_bfloat16",
            **tiny.described,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_card_says_what_the_model_is(exported, tiny):
    card = json.loads((exported / "savedmodel/1/card.json").read_text())
    assert set(card["signatures"]) == {"serving_default", "max_length", "ids", "vector"}
    readme = (exported / "savedmodel/1/README.md").read_text("utf-8")
    assert all(label in readme for label in tiny.described["labels"])


def test_versions_count_up_and_older_ones_stay(tiny, tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "latest").mkdir()
    first = export_savedmodel(tiny.model, tiny.tokenizer, tmp_path, **tiny.described)
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    second = export_savedmodel(tiny.model, tiny.tokenizer, tmp_path, **tiny.described)
    assert (first.name, second.name) == ("8", "9")
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before


def test_a_failure_in_the_middle_leaves_no_version(tiny, tmp_path, monkeypatch):
    def fail(folder, *rest):
        assert (folder / "saved_model.pb").exists()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(savedmodel, "write_warmup", fail)
    with pytest.raises(OSError, match="No space left on device"):
        export_savedmodel(tiny.model, tiny.tokenizer, tmp_path, **tiny.described)
    assert list(tmp_path.iterdir()) == []


def test_no_integer_folder_shows_before_it_is_whole(tiny, tmp_path, monkeypatch):
    seen = []
    save = tf.saved_model.save

    def watch(*args, **kwargs):
        save(*args, **kwargs)
        seen.extend(path.name for path in tmp_path.iterdir())

    monkeypatch.setattr(tf.saved_model, "save", watch)
    export_savedmodel(tiny.model, tiny.tokenizer, tmp_path, **tiny.described)
    assert len(seen) == 1 and not seen[0].isdigit()
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_labels_and_lengths_that_do_not_fit_are_refused(tiny, tmp_path):
    def export(**changes):
        export_savedmodel(
            tiny.model, tiny.tokenizer, tmp_path / "base", **{**tiny.described, **changes}
        )

    with pytest.raises(ConfigError, match="one label for each of the model's 3 classes.*2 labels"):
        export(labels=["a", "b"])
    with pytest.raises(ConfigError, match=r"export.max_length must be in \[4, 24\].*Received: 25"):
        export(max_length=25)
    with pytest.raises(ConfigError, match=r"\[4, 24\].*Received: 3"):
        export(max_length=3)
    assert not (tmp_path / "base").exists()


def test_a_base_that_cannot_be_written_is_the_callers_mistake(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a folder that can be written"):
        export_savedmodel(tiny.model, tiny.tokenizer, tmp_path / "file", **tiny.described)


def test_half_precision_is_refused_with_the_way_out(tiny, tmp_path):
    config = encoder_config(tiny.model.get_layer("encoder"))
    half = classify.build(build_encoder(config, sequence=False, dtype="mixed_bfloat16"), classes=3)
    with pytest.raises(ValueError, match='(?s)bfloat16.*dtype="float32"'):
        export_savedmodel(half, tiny.tokenizer, tmp_path, **tiny.described)
    assert list(tmp_path.iterdir()) == []


def test_a_keras_model_of_ones_own_is_exported_too(tiny, tmp_path):
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    embedded = keras.layers.Embedding(len(tiny.tokenizer.vocabulary), 8)(inputs["token_ids"])
    logits = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(embedded))
    model = keras.Model(inputs, logits)
    folder = export_savedmodel(model, tiny.tokenizer, tmp_path, **tiny.described)
    answer = tf.saved_model.load(str(folder)).signatures["serving_default"](tf.constant(["good"]))
    wanted = tf.nn.softmax(model(tiny.tokenizer(["good"])))
    np.testing.assert_allclose(answer["scores"], wanted, atol=1e-6)


def test_a_fresh_python_with_tensorflow_alone_loads_and_answers(exported, tiny):
    script = """
        import json, sys
        import tensorflow as tf
        import tensorflow_text
        answer = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
        scores = answer(text=tf.constant(json.loads(sys.argv[2])))["scores"].numpy()
        assert not [name for name in sys.modules if name.split(".")[0] == "tfmodel"]
        print(json.dumps(scores.tolist()))
    """
    texts = tiny.texts[:5]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(script),
            str(exported / "savedmodel/1"),
            json.dumps(texts),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    np.testing.assert_allclose(json.loads(done.stdout), tiny.scores[:5], atol=1e-5)
