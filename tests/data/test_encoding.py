"""Encodings: UTF-8 or named or guessed, and words for the wrong one."""

import pytest

from tfmodel.config import ConfigError
from tfmodel.data.reading.encoding import guess_encoding, read_lines


def test_lines_end_in_newline_alone(write):
    path = write("a.txt", "one\x85two\u2028three\x0cfour\nfive\r\nsix")
    lines = list(read_lines(path, "utf-8"))
    assert lines == ["one\x85two\u2028three\x0cfour\n", "five\r\n", "six"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_mark_is_no_text(write, encoding):
    path = write("a.txt", "näh\nzwei\n".encode(encoding))
    named = "utf-8" if encoding == "utf-8-sig" else encoding
    assert list(read_lines(path, named)) == ["näh\n", "zwei\n"]
    assert guess_encoding(path) == named


@pytest.mark.parametrize(
    "text, encoding",
    [
        ("plain ascii", "utf-8"),
        ("Grüße aus Köln", "utf-8"),
        ("Le café était fermé, « dommage » – dit-il.", "cp1252"),
        ("It cost £15.8m", "cp1252"),
        ("El niño comió piñas mañana", "cp1252"),
        ("Привет, как дела? Это тест.", "cp1251"),
        ("这家酒店的服务非常好，房间干净", "gb18030"),
        ("このホテルはとても良いです", "shift-jis"),
        ("이 호텔은 서비스가 아주 좋습니다", "euc-kr"),
        ("Çok güzel bir şehir, ığdır şoför", "cp1254"),
        ("text without a mark", "utf-16-le"),
    ],
)
def test_guess(write, text, encoding):
    path = write("a.txt", f"text,label\n{text}\n".encode(encoding))
    assert guess_encoding(path) == encoding


def test_damaged_english_is_not_taken_for_russian(write):
    line = "I just do not trust my life in their hands, driverless cars_\xd1_ or not\n"
    assert guess_encoding(write("a.txt", line.encode("latin-1") * 9)) == "cp1252"
    line = line.replace("\xd1", "\x81\xd1")  # cp1252 has no 0x81
    assert guess_encoding(write("a.txt", line.encode("latin-1") * 9)) == "latin-1"


def test_wrong_bytes_name_the_place_the_likely_encoding_and_the_line_to_add(write):
    path = write("bad.csv", "text,label\nplain,a\nIt cost £5,b\n".encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        list(read_lines(path, "utf-8"))
    message = str(caught.value)
    assert "bad.csv: expected text in utf-8" in message
    assert "byte 0xa3 on line 3 (byte 27 of the file)" in message
    assert "`encoding: cp1252` under `data:`" in message
    assert "data.encoding=cp1252" in message


def test_place_of_a_character_cut_off_by_the_end_of_the_line(write):
    path = write("bad.csv", b"ab\nc\xc3\nd\n")
    with pytest.raises(ConfigError, match=r"byte 0xc3 on line 2 \(byte 4 of the file\)"):
        list(read_lines(path, "utf-8"))


def test_damaged_utf16_is_told_too(write):
    path = write("bad.csv", "text\n".encode("utf-16") + b"\x00")
    with pytest.raises(ConfigError, match="expected text in utf-16"):
        list(read_lines(path, "utf-16"))


def test_unreadable_file(tmp_path):
    with pytest.raises(ConfigError, match="expected a file that can be read. Received: Is a dir"):
        list(read_lines(tmp_path, "utf-8"))
