"""A vocabulary small enough to count its ids by hand."""

import pytest

from tfmodel.tokens import Tokenizer, Vocabulary

PIECES = """[PAD] [UNK] [CLS] [SEP] [MASK] the cat sat cafe ##s un ##able hello world 你 好 ！ ， …
. , ! Hello café a ##a b ##b [ ] sep и ##и""".split()


@pytest.fixture(scope="session")
def vocabulary():
    return Vocabulary(PIECES)


@pytest.fixture(scope="session")
def tokenizer(vocabulary):
    return Tokenizer(vocabulary, max_length=32)


@pytest.fixture(scope="session")
def cased(vocabulary):
    return Tokenizer(vocabulary, lowercase=False, max_length=32)
