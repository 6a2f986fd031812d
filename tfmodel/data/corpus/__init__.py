"""Raw text in, a corpus for pretraining out: clean documents, without copies, in train and dev."""

from __future__ import annotations

from tfmodel.data.corpus.corpus import Corpus, load_corpus
from tfmodel.data.corpus.prepare import prepare_corpus
from tfmodel.data.corpus.settings import CorpusSettings
from tfmodel.data.corpus.with_beam import prepare_corpus_with_beam

__all__ = [
    "Corpus",
    "CorpusSettings",
    "load_corpus",
    "prepare_corpus",
    "prepare_corpus_with_beam",
]
