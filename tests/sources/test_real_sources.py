"""The real hub, Kaggle and TFDS's servers, where they can be reached; else skipped, saying why.

Run: pytest tests/sources/test_real_sources.py -m slow
"""

import pytest
from fetching import listed
from needs import package

from tfmodel.config import ConfigError
from tfmodel.sources import fetch

SOURCES = {
    "hf:google-bert/bert-base-uncased@main/config.json": ("huggingface_hub", []),
    "hf:datasets/SetFit/sst2@main/dev.jsonl": ("huggingface_hub", []),
    "keras:bert_tiny_en_uncased": ("keras_hub", ["config.json", "model.weights.h5"]),
    "tfds:trec:1.0.0[test]": ("tensorflow_datasets", ["dataset_info.json", "features.json"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_a_real_source(source, monkeypatch):
    needed, files = SOURCES[source]
    package(needed)
    monkeypatch.setattr("tensorflow_datasets.core.download.downloader.MAX_RETRIES", 1)
    try:
        found = fetch(source)
    except ConfigError as error:
        if "Received: no connection" not in str(error):
            raise
        pytest.skip(f"no network: {error}")
    assert set(files) <= set(listed(found)) if files else found.stat().st_size > 0
    assert fetch(source) == found
