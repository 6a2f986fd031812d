import pytest

from tfmodel.config import ConfigError
from tfmodel.tokens import Vocabulary

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def test_ids_are_positions_and_special_pieces_are_found_anywhere():
    vocabulary = Vocabulary(["a", "[SEP]", "[CLS]", "[UNK]", "[PAD]"])
    assert len(vocabulary) == 5
    assert vocabulary.ids["a"] == 0
    found = (vocabulary.padding_id, vocabulary.unknown_id, vocabulary.start_id, vocabulary.end_id)
    assert found == (4, 3, 2, 1)
    assert vocabulary.mask_id is None


def test_a_file_round_trip_keeps_every_piece(tmp_path):
    # Chinese vocabularies hold pieces that other readers take for line ends.
    pieces = [*SPECIAL, "\u2028", "\x85", " ", "你", "##é"]
    Vocabulary(pieces).save(tmp_path / "vocab.txt")
    again = Vocabulary.from_file(tmp_path / "vocab.txt")
    assert again == Vocabulary(pieces)
    assert again.pieces == pieces
    assert again != Vocabulary(SPECIAL)


def test_windows_line_ends_are_not_part_of_pieces(tmp_path):
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*SPECIAL, "a"]).encode())
    assert Vocabulary.from_file(tmp_path / "vocab.txt").pieces == [*SPECIAL, "a"]


def test_a_piece_that_stands_twice_is_named(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, "cat", "dog", "cat"]))
    with pytest.raises(ConfigError, match=r"vocab\.txt: expected every piece once.*'cat'"):
        Vocabulary.from_file(path)


@pytest.mark.parametrize("missing", SPECIAL[:4])
def test_a_missing_special_piece_is_named(missing):
    pieces = [piece for piece in [*SPECIAL, "cat"] if piece != missing]
    with pytest.raises(ConfigError, match=rf"Received: 5 pieces without \{missing[:-1]}\]"):
        Vocabulary(pieces)


def test_an_empty_file_is_no_vocabulary(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"Received: 0 pieces without \[PAD\]"):
        Vocabulary.from_file(tmp_path / "vocab.txt")


def test_bytes_that_are_not_utf8_are_placed(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\ncaf\xe9\n")
    with pytest.raises(ConfigError, match="expected a UTF-8 text file.*byte 9 is not UTF-8"):
        Vocabulary.from_file(tmp_path / "vocab.txt")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(ConfigError, match="Received: no file at .*vocab.txt"):
        Vocabulary.from_file(tmp_path / "vocab.txt")
    with pytest.raises(ConfigError, match="Received: .*, a folder"):
        Vocabulary.from_file(tmp_path)
