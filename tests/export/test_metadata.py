"""TFLite Metadata, read back with nothing but flatbuffers' own table reader."""

import zipfile

import flatbuffers
import pytest
from flatbuffers.number_types import Uint8Flags, UOffsetTFlags
from tensorflow.lite.python import schema_py_generated as schema

from tfmodel.config import ConfigError
from tfmodel.export.tflite.metadata import add_metadata, metadata_flatbuffer, read_associated_files


class _Reader:
    """A table of a flatbuffer; fields by the ids of metadata_schema.fbs."""

    def __init__(self, table):
        self.table = table

    def _offset(self, field):
        return UOffsetTFlags.py_type(self.table.Offset(4 + 2 * field))

    def text(self, field):
        return self.table.String(self._offset(field) + self.table.Pos).decode()

    def byte(self, field):
        return self.table.Get(Uint8Flags, self._offset(field) + self.table.Pos)

    def child(self, field):
        position = self.table.Indirect(self._offset(field) + self.table.Pos)
        return _Reader(flatbuffers.table.Table(self.table.Bytes, position))

    def children(self, field):
        start, count = (
            self.table.Vector(self._offset(field)),
            self.table.VectorLen(self._offset(field)),
        )
        places = [self.table.Indirect(start + 4 * index) for index in range(count)]
        return [_Reader(flatbuffers.table.Table(self.table.Bytes, place)) for place in places]


def _root(buffer: bytes) -> _Reader:
    position = flatbuffers.encode.Get(UOffsetTFlags.packer_type, buffer, 0)
    return _Reader(flatbuffers.table.Table(bytearray(buffer), position))


def test_metadata_says_what_both_phone_runtimes_look_for():
    buffer = metadata_flatbuffer(
        ["mask", "ids", "segment_ids"], name="news", description="what it is", version="3"
    )
    assert buffer[4:8] == b"M001"
    model = _root(buffer)
    assert [model.text(field) for field in (0, 1, 2, 7)] == ["news", "what it is", "3", "1.1.0"]
    (subgraph,) = model.children(3)
    assert [tensor.text(0) for tensor in subgraph.children(2)] == ["mask", "ids", "segment_ids"]
    (output,) = subgraph.children(3)
    assert output.text(0) == "probability"
    (labels,) = output.children(6)
    assert (labels.text(0), labels.byte(2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS
    (unit,) = subgraph.children(5)
    assert unit.byte(0) == 4  # BertTokenizerOptions
    (vocabulary,) = unit.child(1).children(0)
    assert (vocabulary.text(0), vocabulary.byte(2)) == ("vocab.txt", 5)  # VOCABULARY


def test_an_embedder_has_a_vocabulary_and_no_labels():
    buffer = metadata_flatbuffer(
        ["ids", "mask", "segment_ids"], name="news", description="", version="", outputs=["vector"]
    )
    (subgraph,) = _root(buffer).children(3)
    (output,) = subgraph.children(3)
    assert output.text(0) == "vector"
    assert not output.table.Offset(4 + 2 * 6)  # no files
    (unit,) = subgraph.children(5)
    assert unit.byte(0) == 4  # BertTokenizerOptions


def test_without_a_vocabulary_no_tokenizer_is_named():
    buffer = metadata_flatbuffer(
        ["ids", "mask", "segment_ids"],
        name="news",
        description="",
        version="",
        has_vocabulary=False,
    )
    (subgraph,) = _root(buffer).children(3)
    assert not subgraph.table.Offset(4 + 2 * 5)  # nothing that would make ids of texts
    assert "Ids that the app makes" in subgraph.children(2)[0].text(1)
    (labels,) = subgraph.children(3)[0].children(6)
    assert labels.text(0) == "labels.txt"


def test_metadata_names_the_inputs_in_the_order_of_the_model(exported):
    content = (exported / "tflite/float32.tflite").read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content)
    (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    metadata = _root(model.buffers[entry.buffer].data.tobytes())
    named = [tensor.text(0) for tensor in metadata.children(3)[0].children(2)]
    subgraph = model.subgraphs[0]
    assert named == [subgraph.tensors[index].name.decode() for index in subgraph.inputs]
    assert sorted(named) == ["ids", "mask", "segment_ids"]
    (signature,) = model.signatureDefs
    by_name = {entry.name.decode(): entry.tensorIndex for entry in signature.inputs}
    assert [by_name[name] for name in named] == list(subgraph.inputs)


def test_weights_stay_aligned_for_phones(exported):
    for path in (exported / "tflite").iterdir():
        content = path.read_bytes()
        model = schema.Model.GetRootAs(content)
        for index in range(model.BuffersLength()):
            table = model.Buffers(index)._tab
            if model.Buffers(index).DataLength():
                assert table.Vector(table.Offset(4)) % 16 == 0


def test_files_inside_are_plain_and_undated(exported):
    with zipfile.ZipFile(exported / "tflite/int8.tflite") as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == ["labels.txt", "tfmodel.json", "vocab.txt"]
    for entry in entries:
        assert entry.compress_type == zipfile.ZIP_STORED
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)


def test_files_inside_are_read_back(exported, tiny):
    files = read_associated_files(exported / "tflite/int8.tflite")
    assert files["labels.txt"].decode().split() == tiny.described["labels"]
    assert files["vocab.txt"].decode().split("\n")[:-1] == tiny.tokenizer.vocabulary.pieces


def test_a_model_with_other_inputs_is_refused():
    model = schema.ModelT()
    model.subgraphs, model.buffers, model.operatorCodes = [schema.SubGraphT()], [], []
    subgraph = model.subgraphs[0]
    subgraph.tensors, subgraph.inputs, subgraph.outputs = [schema.TensorT()], [0], [0]
    builder = flatbuffers.Builder(100)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    files = {"vocab.txt": b"", "labels.txt": b""}
    with pytest.raises(ValueError, match="Expected a model with inputs ids, mask, segment_ids"):
        add_metadata(bytes(builder.Output()), files, name="", description="", version="")
    with pytest.raises(ValueError, match="Received: no"):
        add_metadata(bytes(builder.Output()), {}, name="", description="", version="")


def test_files_of_no_model(tmp_path):
    with pytest.raises(ConfigError, match=r"expected a \.tflite file. Received: No such file"):
        read_associated_files(tmp_path / "none.tflite")
    (tmp_path / "text.tflite").write_text("hello, I am no model")
    with pytest.raises(ConfigError, match="expected a TFLite model .* starts with b'hello, I'"):
        read_associated_files(tmp_path / "text.tflite")
    (tmp_path / "empty.tflite").write_bytes(b"")
    with pytest.raises(ConfigError, match="expected a TFLite model"):
        read_associated_files(tmp_path / "empty.tflite")
