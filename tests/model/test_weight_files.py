"""Weights in one file or several, of safetensors or torch, and what is said of others."""

import json
import pickle
import sys

import needs
import numpy as np
import numpy_bert
import pytest
from safetensors.numpy import save_file

from tfmodel.config import ConfigError
from tfmodel.model import load_encoder
from tfmodel.model.checkpoints import read_tensors

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def write_shards(folder, tensors):
    """Two files and their index in place of one."""
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    halves = {FIRST: names[::2], SECOND: names[1::2]}
    for file, held in halves.items():
        save_file({name: tensors[name] for name in held}, folder / file, metadata={"format": "pt"})
    write_index(folder, {name: file for file, held in halves.items() for name in held})
    return folder


def write_index(folder, weight_map, *, name="model.safetensors"):
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map})
    (folder / f"{name}.index.json").write_text(text)


@pytest.fixture
def sharded(folder, tensors):
    return write_shards(folder, tensors)


def test_several_files_are_read_as_one(sharded, tensors):
    found = read_tensors(sharded)
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name], value)
    batch = numpy_bert.random_batch()
    expected = numpy_bert.run_bert(tensors, batch)["pooled"]
    np.testing.assert_allclose(load_encoder(sharded)(batch)["pooled"], expected, atol=2e-6)


def test_one_whole_file_goes_before_an_index(folder, tensors):
    write_index(folder, {"pooler.dense.bias": "nowhere.safetensors"})
    assert set(read_tensors(folder)) == set(tensors)


@pytest.mark.parametrize(
    "file",
    [
        "../model.safetensors",
        "/etc/model.safetensors",
        "more/model.safetensors",
        "..\\model.safetensors",
        "..",
        "",
        "weights.bin",
        "model.safetensors/",
    ],
)
def test_an_index_names_files_beside_it_alone(sharded, tensors, file):
    (sharded.parent / "model.safetensors").write_bytes((sharded / FIRST).read_bytes())
    write_index(sharded, {**dict.fromkeys(sorted(tensors), FIRST), "pooler.dense.bias": file})
    with pytest.raises(ConfigError) as caught:
        load_encoder(sharded)
    message = str(caught.value)
    assert "expected names of files in the same folder that end in .safetensors" in message
    assert f"Received: {file!r}. Do not use this folder" in message


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": ["a"]}', '{"weight_map": null}'])
def test_an_index_that_is_none(sharded, text):
    (sharded / "model.safetensors.index.json").write_text(text)
    with pytest.raises(
        ConfigError, match=r"model\.safetensors\.index\.json: expected a JSON object with weight_m"
    ):
        load_encoder(sharded)


def test_a_missing_file_is_named(sharded, tensors):
    (sharded / SECOND).unlink()
    with pytest.raises(
        ConfigError, match=rf"expected {SECOND}, with {len(tensors) // 2} tensors, beside it"
    ):
        load_encoder(sharded)


def test_a_file_without_what_the_index_names(sharded):
    save_file({"pooler.dense.bias": np.zeros(16, np.float32)}, sharded / SECOND)
    with pytest.raises(
        ConfigError, match=rf"{SECOND}: expected the tensors that the index .* Received: no .* more"
    ):
        load_encoder(sharded)


def test_a_truncated_file_of_several(sharded):
    path = sharded / SECOND
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ConfigError, match=rf"{SECOND}: expected a whole safetensors file"):
        load_encoder(sharded)


def test_a_folder_without_weights(folder):
    (folder / "model.safetensors").rename(folder / "model.h5")
    with pytest.raises(
        ConfigError,
        match=r"expected weights in model\.safetensors or pytorch_model\.bin, or an index .* "
        r"Received: none of them; the folder holds config\.json, model\.h5, vocab\.txt. Save",
    ):
        load_encoder(folder)


def test_a_pytorch_file_asks_for_torch(folder, monkeypatch):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        ConfigError, match=r"pytorch_model\.bin: expected torch, .* pip install 'tfmodel\[torch\]'"
    ):
        load_encoder(folder)


# --- with torch ---------------------------------------------------------------------------


@pytest.fixture
def torch():
    return needs.package("torch")


@pytest.fixture
def states(torch, tensors):
    return {f"bert.{name}": torch.tensor(value) for name, value in tensors.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float64"])
def test_a_pytorch_file_is_read(folder, tensors, torch, states, kind):
    (folder / "model.safetensors").unlink()
    states = {name: value.to(getattr(torch, kind)) for name, value in states.items()}
    states["bert.embeddings.position_ids"] = torch.arange(12)[None]
    torch.save(states, folder / "pytorch_model.bin")
    found = read_tensors(folder)
    assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}
    for name, value in tensors.items():
        expected = states[f"bert.{name}"].to(torch.float32).numpy()
        np.testing.assert_array_equal(found[name], expected)
        np.testing.assert_allclose(found[name], value, rtol=1e-2)
    load_encoder(folder)


@pytest.mark.slow
def test_several_pytorch_files_are_read(folder, tensors, torch, states):
    (folder / "model.safetensors").unlink()
    names = sorted(states)
    files = {"pytorch_model-1.bin": names[::2], "pytorch_model-2.bin": names[1::2]}
    for file, held in files.items():
        torch.save({name: states[name] for name in held}, folder / file)
    weight_map = {name: file for file, held in files.items() for name in held}
    write_index(folder, weight_map, name="pytorch_model.bin")
    found = read_tensors(folder)
    assert set(found) == set(tensors)
    write_index(folder, {**weight_map, names[0]: "../x.bin"}, name="pytorch_model.bin")
    with pytest.raises(
        ConfigError, match=r"same folder that end in \.bin. Received: '\.\./x\.bin'"
    ):
        read_tensors(folder)


class Hostile:
    """A pickle of it writes a file when it is read."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.slow
@pytest.mark.parametrize("plain", [True, False])
def test_a_pickle_that_runs_code_is_not_run(folder, tmp_path, torch, plain):
    (folder / "model.safetensors").unlink()
    held = {"pooler.dense.bias": Hostile(tmp_path / "owned")}
    if plain:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(held))
    else:
        torch.save(held, folder / "pytorch_model.bin")
    with pytest.raises(
        ConfigError, match="expected a PyTorch file of tensors .* that weights-only loading refuses"
    ):
        load_encoder(folder)
    assert not (tmp_path / "owned").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "received"),
    [
        (lambda torch: torch.zeros(3), "Received: Tensor"),
        (lambda torch: {"model": {"a": torch.zeros(3)}, "epoch": 3}, "values of dict, int"),
    ],
)
def test_a_pytorch_file_of_something_else(folder, torch, make, received):
    (folder / "model.safetensors").unlink()
    torch.save(make(torch), folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=rf"expected tensors by name .* {received}"):
        load_encoder(folder)


@pytest.mark.slow
def test_a_truncated_pytorch_file(folder, torch, states):
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    torch.save(states, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(
        ConfigError, match=r"pytorch_model\.bin: expected a PyTorch file of tensors"
    ):
        load_encoder(folder)
