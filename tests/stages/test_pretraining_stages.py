"""What the stages of a pretraining find out for themselves: words, and whether text is cased.

Run: pytest tests/stages/test_pretraining_stages.py
"""

import json

import pytest

from tfmodel.stages.token_documents import _kind_of_words
from tfmodel.stages.vocabulary import given_tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]"]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["我们在北京大学学习自然语言处理。", "BERT 是一个模型"], "jieba"),
        (["Beijing (北京) is the capital of China.", "12 + 30"], None),
        (["1 2 3"], None),
        ([], None),
    ],
)
def test_words_are_a_segmenters_where_much_is_chinese(texts, words):
    assert _kind_of_words(texts) == words


@pytest.mark.parametrize(
    ("pieces", "lowercase"), [(["the", "##s"], True), (["The", "the"], False), (["É"], False)]
)
def test_a_file_of_pieces_says_whether_text_is_cased(pieces, lowercase, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, *pieces]) + "\n", "utf-8")
    assert given_tokenizer(str(path)).lowercase is lowercase


def test_a_folder_of_a_model_says_it_itself(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "the"]) + "\n", "utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    assert given_tokenizer(str(tmp_path)).lowercase is False
