"""Token documents: what the tokenizer gives, on disk, whole or not at all."""

import itertools
import json
from pathlib import Path

import needs
import numpy as np
import pytest
import small_corpus

from tfmodel.config import ConfigError
from tfmodel.tokens import TokenDocuments, Tokenizer, Vocabulary, write_token_documents
from tfmodel.tokens import token_documents as module
from tfmodel.tokens.token_documents import STARTS_SENTENCE, STARTS_WORD


@pytest.fixture(scope="module")
def small():
    return small_corpus.tokenizer()


def pieces_of(documents, vocabulary, index):
    return [vocabulary.pieces[i] for i in documents[index]]


def test_documents_are_what_the_tokenizer_gives(small, tmp_path):
    texts = [*small_corpus.texts(300), "", "  ", *small_corpus.texts(20, seed=1)]
    documents = write_token_documents(iter(texts), small, tmp_path / "tokens")
    expected = [row for row in small.tokenize(texts).to_list() if row]
    assert len(documents) == len(expected) == 320
    assert [document.tolist() for document in documents] == expected
    tokens = sum(map(len, expected))
    unknown = sum(row.count(small.vocabulary.unknown_id) for row in expected)
    assert documents.account == {
        "texts": 322,
        "documents": 320,
        "empty": 2,
        "tokens": tokens,
        "unknown": unknown,
    }
    assert unknown > 0
    assert documents.lengths.tolist() == [len(row) for row in expected]
    assert isinstance(documents.ids, np.memmap)
    assert documents.ids.dtype == np.uint16
    begins = [not small.vocabulary.pieces[i].startswith("##") for i in documents.ids]
    assert ((documents.marks & STARTS_WORD) > 0).tolist() == begins
    assert not (documents.marks & STARTS_SENTENCE).any()
    # Plain arrays, for anyone.
    assert np.load(tmp_path / "tokens/ids.npy").shape == (tokens,)
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


def test_marks_of_sentences(small, tmp_path):
    texts = ["Ka lobe. Mi xx! Ra.", "Ro", "Ta. "]
    documents = write_token_documents(texts, small, tmp_path / "t", sentences=True)
    starts = np.flatnonzero(documents.marks & STARTS_SENTENCE)
    found = [small.vocabulary.pieces[i] for i in documents.ids[starts]]
    assert found == ["ka", "mi", "ra", "ro", "ta"]
    assert pieces_of(documents, small.vocabulary, 0) == "ka lo ##be . mi [UNK] ! ra .".split()


def test_chinese_words_are_marked_by_the_segmenter(tmp_path):
    needs.package("rjieba")
    characters = "我们在北京大学学习，"
    vocabulary = Vocabulary([*small_corpus.SPECIAL, *dict.fromkeys(characters), "play", "##ing"])
    tokenizer = Tokenizer(vocabulary)
    texts = ["我们在北京大学", "Playing学习，"]
    plain = write_token_documents(texts, tokenizer, tmp_path / "plain")
    assert (plain.marks & STARTS_WORD).tolist() == [1] * 7 + [1, 0, 1, 1, 1]
    words = write_token_documents(texts, tokenizer, tmp_path / "words", words="jieba")
    assert (words.marks & STARTS_WORD).tolist() == [1, 0, 1, 1, 0, 0, 0] + [1, 0, 1, 0, 1]
    assert words.fingerprint != plain.fingerprint


def test_workers_and_chunks_change_nothing(small, tmp_path, monkeypatch):
    texts = small_corpus.texts(200)
    first = write_token_documents(texts, small, tmp_path / "a", sentences=True)
    monkeypatch.setattr(module, "_TEXTS_AT_ONCE", 7)
    second = write_token_documents(texts, small, tmp_path / "b", sentences=True, workers=3)
    assert first.fingerprint == second.fingerprint
    for name in ("ids", "marks", "splits"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    # A text longer than is tokenized at once is one document all the same.
    monkeypatch.setattr(module, "_CHARACTERS_AT_ONCE", 900)
    assert max(map(len, texts)) > 900
    third = write_token_documents(texts, small, tmp_path / "c", sentences=True)
    np.testing.assert_array_equal(third.ids, first.ids)
    np.testing.assert_array_equal(third.splits, first.splits)


def test_a_text_of_one_endless_word_and_half_a_character(small, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHARACTERS_AT_ONCE", 1000)
    documents = write_token_documents(["ka" * 5000, "ka \ud800 lo"], small, tmp_path / "t")
    assert len(documents) == 2
    assert pieces_of(documents, small.vocabulary, 1) == ["ka", "[UNK]", "lo"]


class Interrupted(Exception):
    pass


def interrupted(texts, after):
    yield from texts[:after]
    raise Interrupted


@pytest.mark.parametrize("saves", [0.0, 1e9])
def test_an_interrupted_call_goes_on(small, tmp_path, monkeypatch, saves):
    monkeypatch.setattr(module, "_TEXTS_AT_ONCE", 10)
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_SAVES", saves)
    texts = small_corpus.texts(400)
    whole = write_token_documents(texts, small, tmp_path / "whole", sentences=True)
    place = tmp_path / "tokens"
    with pytest.raises(Interrupted):
        write_token_documents(interrupted(texts, 305), small, place, sentences=True, workers=2)
    assert not place.exists()
    done = json.loads((tmp_path / ".tokens.unfinished/done.json").read_text())["done"]["texts"]
    assert done >= 200
    tokenized = []
    tokenize = small.tokenize_with_offsets
    monkeypatch.setattr(
        small, "tokenize_with_offsets", lambda given: tokenized.extend(given) or tokenize(given)
    )
    again = write_token_documents(iter(texts), small, place, sentences=True)
    assert len(tokenized) == len(texts) - done
    assert again.account == whole.account
    assert again.fingerprint == whole.fingerprint
    for name in ("ids", "marks", "splits"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    assert not (tmp_path / ".tokens.unfinished").exists()


def test_after_a_kill_only_what_was_saved_counts(small, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TEXTS_AT_ONCE", 10)
    texts = small_corpus.texts(200)
    whole = write_token_documents(texts, small, tmp_path / "whole").fingerprint
    place, left = tmp_path / "tokens", tmp_path / ".tokens.unfinished"

    def leave():
        with pytest.raises(Interrupted):
            write_token_documents(interrupted(texts, 150), small, place, workers=1)

    def end(name, content):
        with open(left / name, "ab") as file:
            file.write(content)

    leave()  # written after the last save
    for name in ("ids.npy", "marks.npy", "splits.npy"):
        end(name, b"half of a chunk")
    assert write_token_documents(texts, small, place).fingerprint == whole
    leave()  # lost by the disk
    ids = left / "ids.npy"
    ids.write_bytes(ids.read_bytes()[:-10])
    assert write_token_documents(texts, small, place).fingerprint == whole
    leave()
    (left / "done.json").write_text('{"done": {"texts"')
    assert write_token_documents(texts, small, place).fingerprint == whole


def test_nothing_is_taken_over_from_other_texts_or_options(small, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TEXTS_AT_ONCE", 10)
    texts = small_corpus.texts(300)
    others = [text + " Ka." for text in texts]
    place = tmp_path / "tokens"

    def leave(key=""):
        with pytest.raises(Interrupted):
            write_token_documents(interrupted(texts, 200), small, place, workers=1, key=key)

    expected = write_token_documents(others, small, tmp_path / "others")
    leave()
    assert write_token_documents(others, small, place).fingerprint == expected.fingerprint
    leave("one corpus")
    given = iter(others)
    assert write_token_documents(given, small, place, key="two").fingerprint == expected.fingerprint
    leave()
    with pytest.raises(ConfigError, match="removed: start again"):
        write_token_documents(iter(others), small, place)
    found = write_token_documents(iter(others), small, place)
    assert found.fingerprint == expected.fingerprint
    leave()
    found = write_token_documents(iter(texts), small, place, sentences=True)
    assert found.sentences


def test_a_full_disk_is_named_and_leaves_what_was_there(small, tmp_path, monkeypatch):
    texts = small_corpus.texts(50)
    before = write_token_documents(texts, small, tmp_path / "tokens").fingerprint
    append = module._Unfinished.append

    def full(self, *arguments):
        append(self, *arguments)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module._Unfinished, "append", full)
    with pytest.raises(OSError, match="expected room on the disk to write tokens"):
        write_token_documents(small_corpus.texts(60), small, tmp_path / "tokens")
    assert TokenDocuments(tmp_path / "tokens").fingerprint == before


def test_a_disk_full_at_the_last_file_is_named_and_the_next_call_ends_it(
    small, tmp_path, monkeypatch
):
    texts = small_corpus.texts(50)
    whole = write_token_documents(texts, small, tmp_path / "whole").fingerprint
    unlink = Path.unlink

    def full(path, **arguments):
        if path.name == "done.json":
            raise OSError(28, "No space left on device")
        unlink(path, **arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", full)  # once the arrays are closed
        with pytest.raises(OSError, match="expected room on the disk to write tokens"):
            write_token_documents(texts, small, tmp_path / "tokens")
    assert not (tmp_path / "tokens").exists()
    assert write_token_documents(texts, small, tmp_path / "tokens").fingerprint == whole


def test_memory_does_not_grow_with_the_texts(small, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TEXTS_AT_ONCE", 10)
    given, most = 0, 0
    made = 0
    make = module._Tokenize.__call__

    def count(self, texts):
        nonlocal made
        made += len(texts)
        return make(self, texts)

    def texts():
        nonlocal given, most
        for text in itertools.islice(itertools.cycle(["Ka lo.", "Mi."]), 3000):
            given += 1
            most = max(most, given - made)
            yield text

    monkeypatch.setattr(module._Tokenize, "__call__", count)
    write_token_documents(texts(), small, tmp_path / "tokens", workers=2)
    assert most <= 10 * (2 * 2 + 3)


def test_no_texts_are_no_documents(small, tmp_path):
    documents = write_token_documents(["", " "], small, tmp_path / "tokens")
    assert len(documents) == 0
    assert documents.account["empty"] == 2


def test_mistakes_are_named(small, tmp_path):
    with pytest.raises(ConfigError, match=r"no tokens\.json in .*nothing.*tokens stage"):
        TokenDocuments(tmp_path / "nothing")
    place = tmp_path / "tokens"
    documents = write_token_documents(["Ka lo."], small, place)
    with pytest.raises(ConfigError, match="tokenized with. Received: another one, of 5 pieces"):
        documents.require(Vocabulary(small_corpus.SPECIAL))
    content = (place / "ids.npy").read_bytes()
    for broken in (content[:-2], b"", content[:40]):
        (place / "ids.npy").write_bytes(broken)
        with pytest.raises(ConfigError, match="ids.npy: expected an array"):
            TokenDocuments(place)
    np.save(place / "ids.npy", np.zeros(2, np.uint16))
    with pytest.raises(ConfigError, match="expected 3 tokens in 1 documents"):
        TokenDocuments(place)
    np.save(place / "ids.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ConfigError, match="ids.npy: expected an array"):
        TokenDocuments(place)
    (place / "tokens.json").write_text("{")
    with pytest.raises(ConfigError, match="expected JSON"):
        TokenDocuments(place)
    (place / "tokens.json").write_text('{"version": 99}')
    with pytest.raises(ConfigError, match="version 1"):
        TokenDocuments(place)
