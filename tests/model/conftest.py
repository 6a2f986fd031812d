"""Random BERTs of 2 layers, D 16."""

import numpy_bert
import pytest

from tfmodel.model import BertConfig


@pytest.fixture(scope="session")
def config():
    return BertConfig.from_huggingface(numpy_bert.CONFIG)


@pytest.fixture(scope="session")
def tensors():
    """Weights by Hugging Face name; not to be changed."""
    return numpy_bert.make_tensors()


@pytest.fixture
def folder(tmp_path, tensors):
    """A Hugging Face folder with these weights, written without torch or tfmodel."""
    return numpy_bert.write_folder(tmp_path / "bert", tensors=tensors)
