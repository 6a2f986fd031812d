"""`tfmodel lint`: operations by TF Serving release, and what else is in a server's way.

Run: pytest tests/export/test_lint.py
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_text
from tensorflow.core.framework import op_def_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.client import pywrap_tf_session as session
from tensorflow_serving.apis import prediction_log_pb2

from tfmodel.config import ConfigError
from tfmodel.export import lint
from tfmodel.export.linting import servable, serving_ops
from tfmodel.export.linting.serving_ops import is_in, releases, since, until

NEWEST = releases()[-1]
WARMUP = "assets.extra/tf_serving_warmup_requests"


def save(module, folder, signatures):
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A SavedModel with a variable, an asset, a nested function and one signature."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "words.txt").write_text("a\nb\n")

    class Small(tf.Module):
        def __init__(self):
            self.weight = tf.Variable([2.0])
            self.asset = tf.saved_model.Asset(str(folder / "words.txt"))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "numbers")])
        def nested(self, numbers):
            return tf.sinh(numbers) * self.weight

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "numbers")])
        def serve(self, numbers):
            return {"doubled": self.nested(numbers)}

    module = Small()
    return save(module, folder / "1", {"serving_default": module.serve})


@pytest.fixture
def mine(small, tmp_path):
    """A copy of `small` to spoil."""
    return shutil.copytree(small, tmp_path / "1")


def edit(folder, change):
    """Change the SavedModel's protocol buffer."""
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(model.meta_graphs[0])
    path.write_bytes(model.SerializeToString())


def rename(folder, old, new):
    """Give every node of one operation another one."""

    def change(meta_graph):
        library = meta_graph.graph_def.library.function
        nodes = [*meta_graph.graph_def.node, *(node for f in library for node in f.node_def)]
        found = [node for node in nodes if node.op == old]
        assert found
        for node in found:
            node.op = new

    edit(folder, change)


# --- operations -------------------------------------------------------------------------------


def test_our_export_is_for_2_12_and_no_older(exported):
    report = lint(exported / "savedmodel/1", target="2.12")
    assert report.passed and report.needs == "2.12"
    assert not report.problems and not report.warnings
    assert report.written_by == tf.__version__ and "serving_default" in report.signatures
    older = lint(exported / "savedmodel", target="2.11")
    (problem,) = older.problems
    assert problem.startswith("FastBertNormalize is in TF Serving since 2.12, not in 2.11")
    assert "signature max_length, serving_default, vector (" in problem and "ids" not in problem
    assert "BertTokenizer" in problem and problem.endswith("serve with 2.12 or newer.")
    assert not older.passed and "cannot serve" in older.verdict


def test_round_robin_trimming_is_for_2_20(tmp_path):
    class Trimming(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def trim(self, text):
            words = tf.strings.split(text)
            trimmed = tensorflow_text.RoundRobinTrimmer(8).trim([words, words])
            return trimmed[0].to_tensor()

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def serve(self, text):
            return {"words": self.trim(text)}

    module = Trimming()
    save(module, tmp_path / "1", {"serving_default": module.serve})
    for target in ("2.12", "2.19.1"):
        (problem,) = lint(tmp_path, target=target).problems
        assert problem.startswith("TFText>RoundRobinTrim is in TF Serving since 2.20")
        assert "signature serving_default (function __inference_trim_" in problem
        assert "Cut with core operations" in problem
    report = lint(tmp_path, target="2.20")
    assert report.passed and report.needs == "2.20"


def test_an_operation_of_nobodys_is_found_in_a_nested_function(mine):
    rename(mine, "Sinh", "Acme>Sinh")
    report = lint(mine, target=NEWEST)
    (problem,) = report.problems
    assert problem.startswith("Acme>Sinh is in no stock TF Serving")
    assert "signature serving_default (function __inference_nested_" in problem
    assert report.needs is None and "no release has all" in report.verdict


def test_an_operation_of_the_graph_itself_is_found(mine):
    edit(mine, lambda meta: meta.graph_def.node.add(name="stray", op="AcmeStray"))
    (problem,) = lint(mine).problems
    assert "AcmeStray" in problem and "in the graph itself, which no signature comes to" in problem


def test_every_meta_graph_is_read(mine):
    path = mine / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    model.meta_graphs.add().CopyFrom(model.meta_graphs[0])
    model.meta_graphs[1].meta_info_def.tags.append("gpu")
    model.meta_graphs[1].graph_def.node.add(name="stray", op="AcmeStray")
    path.write_bytes(model.SerializeToString())
    assert "AcmeStray" in lint(mine).problems[0]


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("EagerPyFunc", "calls back into Python"),
        ("TRTEngineOp", "Only a server built with TensorRT"),
        ("CompareAndBitpack", "is in TF Serving up to 2.5, not in 2.12"),
        ("DecodeWebP", "is in TF Serving since 2.20, not in 2.12"),
    ],
)
def test_what_to_do_about_an_operation(operation, words, mine):
    rename(mine, "Sinh", operation)
    (problem,) = lint(mine).problems
    assert problem.startswith(operation) and words in problem


def test_what_is_no_operation_of_anybodys_is_not_reported(mine):
    rename(mine, "Sinh", "_FusedMatMul")
    assert lint(mine, target=releases()[0]).needs != releases()[0]  # it has DisableCopyOnRead
    assert lint(mine).passed

    def call_by_name(meta_graph):
        name = meta_graph.graph_def.library.function[0].signature.name
        meta_graph.graph_def.node.add(name="old_call", op=name)

    edit(mine, call_by_name)
    report = lint(mine)
    assert report.passed and not [use for use in report.ops if "__inference" in use.name]


def test_the_report_lists_operations_with_their_releases(small):
    report = lint(small)
    (use,) = [use for use in report.ops if use.name == "Sinh"]
    assert (use.nodes, use.since, use.signatures) == (1, "2.2", ("serving_default",))
    notable = "\n".join(report.lines())
    assert "DisableCopyOnRead  since 2.10" in notable and "Sinh" not in notable
    assert "other operations are in every TF Serving since 2.2" in notable
    every = "\n".join(report.lines(every=True))
    assert "Sinh" in every and "other operations" not in every
    read = json.loads(json.dumps(report.as_dict()))
    assert {use["name"]: use["since"] for use in read["ops"]}["Sinh"] == "2.2"
    assert read["passed"] and read["needs"] == "2.10" and read["target"] == "2.12"


def test_the_table_says_what_is_known_of_the_releases():
    assert [since(name) for name in ("CaseFoldUTF8", "MatMul", "WordpieceTokenizeWithOffsets")] == [
        "2.2", "2.2", "2.2",
    ]  # fmt: skip
    # TF Serving 2.7.3 had it, 2.8 and 2.9 lacked it.
    assert since("FastWordpieceTokenizeWithOffsets") == "2.10"
    assert since("FastBertNormalize") == "2.12"
    assert since("TFText>RoundRobinTrim") == since("TFText>RoundRobinGenerateMasks") == "2.20"
    assert since("PyFunc") is since("NoSuchOperation") is None
    assert until("MatMul") is None and is_in("CompareAndBitpack", "2.5")
    assert not is_in("CompareAndBitpack", "2.6")
    assert releases()[0] == "2.2" and "2.12" in releases()


def test_the_table_agrees_with_the_tensorflow_that_is_installed():
    release = ".".join(tf.__version__.split(".")[:2])
    listed = op_def_pb2.OpList.FromString(session.TF_GetBuffer(session.TF_GetAllOpList()))
    registered = {operation.name for operation in listed.op}
    table = json.loads(Path(serving_ops.__file__).with_name("serving_ops.json").read_text())
    known = [name for names in table["since"].values() for name in names]
    wrong = {name for name in known if is_in(name, release) != (name in registered)}
    # Decision Forests are linked into TF Serving alone.
    assert {name for name in wrong if not name.startswith("SimpleML")} == set()
    assert len(known) == len(set(known)) > 1500


@pytest.mark.parametrize("target", ["2.12.1", "v2.19.1", "2.13.1-gpu", "2.99", " 2.12"])
def test_targets(target, exported):
    assert lint(exported / "savedmodel", target=target).passed


@pytest.mark.parametrize("target", ["2.1", "1.15", "latest", "", "2"])
def test_targets_that_are_none(target, exported):
    with pytest.raises(ConfigError, match="target must be a TF Serving release from 2.2 on"):
        lint(exported / "savedmodel", target=target)


def test_tensorflow_is_not_imported(small):
    code = (
        "import sys\n"
        "from tfmodel.export import lint\n"
        "assert lint(sys.argv[1]).passed\n"
        "print(sorted({'tensorflow', 'keras'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code, small], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# --- signatures and graphs --------------------------------------------------------------------


def warns(folder, words):
    report = lint(folder)
    assert report.passed, report.problems
    return [warning for warning in report.warnings if words in warning]


def test_signatures_that_clients_stumble_over(tmp_path):
    specs = [
        tf.TensorSpec([2], tf.float32, "fixed"),
        tf.TensorSpec(None, tf.float32, "loose"),
        tf.TensorSpec([None, None], tf.float32, "long"),
    ]

    @tf.function(input_signature=specs)
    def serve(fixed, loose, long):
        return {
            "image_bytes": tf.as_string(fixed),
            "anything": loose,
            "table": long,
            "one": tf.reduce_sum(fixed),
            "half": tf.cast(fixed, tf.bfloat16),
        }

    save(tf.Module(), tmp_path / "1", {"ask": serve})
    warnings = lint(tmp_path).warnings
    assert [
        "Signature ask takes a fixed number of rows: fixed (2)" in warnings[2],
        "the shape of loose (…) is not known" in warnings[1],
        "no signature serving_default, so every request must name one of ask" in warnings[0],
        "base64 where an output's name ends in _bytes: image_bytes" in warnings[3],
        "the shape of anything (…), table (?, ?) is not wholly known" in warnings[4],
        "one () has no dimension for rows" in warnings[5],
        "REST cannot write half (BFLOAT16)" in warnings[6],
    ] == [True] * 7, warnings


def test_a_graph_that_nobody_can_ask_or_load(mine):
    edit(mine, lambda meta: meta.signature_def.clear())
    assert warns(mine, "There is no signature, so no client can ask")

    def tag(meta_graph):
        meta_graph.meta_info_def.tags[:] = ["train"]
        meta_graph.meta_info_def.stripped_default_attrs = False

    edit(mine, tag)
    assert warns(mine, "tagged [train]; TF Serving looks for [serve]")
    assert warns(mine, "Attributes that have their default value were kept")


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("PrintV2", "writes to the server's log"),
        ("CheckNumerics", "is for debugging"),
        ("CudnnRNNV3", "runs on a GPU only"),
        ("XlaCallModule", "--xla_cpu_compilation_enabled=true"),
        ("ReadFile", "reads files when asked"),
    ],
)
def test_operations_that_load_and_disappoint(operation, words, mine):
    rename(mine, "Sinh", operation)
    assert warns(mine, words)[0].startswith(operation)


def test_marks_and_paths_of_the_machine_that_saved_it(mine):
    def change(meta_graph):
        function = meta_graph.graph_def.library.function[0]
        function.attr["_XlaMustCompile"].b = True
        function.node_def[0].device = "/device:GPU:0"
        constant = meta_graph.graph_def.node.add(name="path", op="Const")
        constant.attr["value"].tensor.string_val.append(b"/home/me/vocab.txt")

    assert not warns(mine, "XLA") + warns(mine, "pinned") + warns(mine, "names the file")
    edit(mine, change)
    assert warns(mine, "compiled by XLA") and warns(mine, "1 nodes are pinned to a GPU")
    assert warns(mine, "names the file /home/me/vocab.txt")


# --- warm-up ----------------------------------------------------------------------------------


def write_warmup(folder, *records):
    path = folder / WARMUP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def request(signature):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.name = "model"
    log.predict_log.request.model_spec.signature_name = signature
    return log.SerializeToString()


def test_warm_up_that_is_missing_or_empty(mine):
    assert warns(mine, "There are no warm-up records (assets.extra/tf_serving_warmup_requests)")
    write_warmup(mine)
    assert warns(mine, "is empty, so nothing is warmed up")
    write_warmup(mine, *[request("serving_default")] * 1000, b"")
    (problem,) = lint(mine).problems
    assert "has more than 1,000 records" in problem
    write_warmup(mine, *[request("serving_default")] * 999, request(""))
    report = lint(mine)
    assert report.passed and not report.warnings


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([request("serving_defualt")], "asks for signatures that are not there: serving_defualt"),
        ([request("serving_default"), b"\xff\xff"], "a record that is no PredictionLog"),
    ],
)
def test_warm_up_for_which_the_version_is_refused(records, words, mine):
    write_warmup(mine, *records)
    (problem,) = lint(mine).problems
    assert "TF Serving refuses the version" in problem and words in problem


@pytest.mark.parametrize("damage", [lambda raw: b"GET / HTTP/1.1", lambda raw: raw[:-3]])
def test_warm_up_that_is_damaged(damage, mine):
    path = write_warmup(mine, request("serving_default"))
    path.write_bytes(damage(path.read_bytes()))
    (problem,) = lint(mine).problems
    assert "cannot be read (no TFRecord file, or a damaged one)" in problem


# --- files ------------------------------------------------------------------------------------


def test_files_that_are_missing(mine):
    (mine / "assets/words.txt").unlink()
    (mine / "variables/variables.data-00000-of-00001").unlink()
    problems = lint(mine).problems
    assert "Asset words.txt is missing from assets/" in problems[0]
    assert "The weights are not whole: 0 of 1 files" in problems[1]
    shutil.rmtree(mine / "variables")
    assert "The weights are missing: variables/variables.index" in lint(mine).problems[1]


def test_an_asset_elsewhere(mine):
    edit(mine, lambda meta: setattr(meta.asset_file_def[0], "filename", "/home/me/words.txt"))
    assert "Asset /home/me/words.txt lies outside assets/" in lint(mine).problems[0]


def test_files_that_are_large(mine, monkeypatch):
    assert not warns(mine, " MB")
    (mine / "assets/checkpoint").touch()
    os.truncate(mine / "assets/checkpoint", 250_000_000)
    assert warns(mine, "The assets have 250 MB")
    monkeypatch.setattr(servable, "LARGE_GRAPH_BYTES", 1000)
    assert warns(mine, "saved_model.pb has 0 MB, and cannot have more than 2,147 MB")


# --- what is no SavedModel --------------------------------------------------------------------


def test_the_highest_version_is_taken(small, tmp_path):
    for version in ("9", "00010"):
        shutil.copytree(small, tmp_path / version)
    (tmp_path / "latest").mkdir()
    rename(tmp_path / "9", "Sinh", "AcmeSinh")
    assert lint(tmp_path).passed and lint(tmp_path).path.name == "00010"
    (tmp_path / "11").mkdir()
    with pytest.raises(ConfigError, match="Received: a folder with 11, the highest version, wit"):
        lint(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty one"),
        (b"not a protocol buffer", "cannot be read"),
        (b"\x08\x01", "without a graph"),
        (b"\x12\x05\xff\xff\xff\xff\xff", "cannot be read"),
        (None, "a folder with nothing"),
    ],
)
def test_damaged_graph_files(content, words, tmp_path):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ConfigError, match=f"(?s)expected a SavedModel.*Received: .*{words}"):
        lint(tmp_path)


def test_a_graph_file_that_was_cut(mine):
    path = mine / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="cannot be read.*Copy it or export it again"):
        lint(mine)


def test_a_place_where_none_is(exported, tmp_path):
    with pytest.raises(ConfigError, match="Received: a path where nothing is"):
        lint(tmp_path / "none")
    with pytest.raises(ConfigError, match="Received: a file"):
        lint(exported / "tflite/float32.tflite")
    with pytest.raises(ConfigError, match="Received: a folder with savedmodel, tflite"):
        lint(exported)


# --- the command ------------------------------------------------------------------------------


def test_the_command_and_its_exit_codes(exported, tfmodel):
    base = exported / "savedmodel"
    done = tfmodel("lint", base)
    assert done.code == 0 and done.err == ""
    assert "FastBertNormalize" in done.out and "Softmax" not in done.out
    assert done.out.splitlines()[-1].startswith(f"TF Serving 2.12 can serve {base}/1: nothing")
    assert "Softmax" in tfmodel("lint", base, "--all").out

    refused = tfmodel("lint", base, "--target", "2.11")
    assert refused.code == 1 and "problem: FastBertNormalize" in refused.out
    assert refused.err.startswith(f"tfmodel: failed: TF Serving 2.11 cannot serve {base}/1: 1 prob")

    read = tfmodel("lint", base, "--target", "2.11", "--json")
    assert read.code == 1 and json.loads(read.out)["needs"] == "2.12"
    assert json.loads(tfmodel("lint", base, "--json").out)["passed"] is True

    for arguments in ([exported / "tflite"], [base, "--target", "newest"]):
        mistake = tfmodel("lint", *arguments)
        assert mistake.code == 2 and "Received: " in mistake.err and not mistake.out
