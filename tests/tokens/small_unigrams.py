"""Small unigram models in their files, and what Hugging Face's library makes of them."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

import tokenizers

XLM_ROBERTA = ["<s>", "<pad>", "</s>", "<unk>"]
ALBERT = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["▁the", "▁cat", "▁ca", "t", "▁", "he", "▁t", "a", "b", "ab", "ba", "aa", "abab", "c", "s"]
WORDS += [
    "é",
    "e",
    "'",
    "你",
    "好",
    "你好",
    "世界",
    "界",
    "😀",
    ".",
    "1",
    "2",
    "fi",
    "f",
    "i",
    "x",
    "''",
]
WORDS += ["A", '"', "n", "ï", "h", "▁h", "ello", "l", "o", "\u0301"]
TABLE = {
    **{"ﬁ": "fi", "ﬀ": "ff", "é": "é", "e\u0301": "é", "ｅ": "e", "ｅ\u0301": "é", "\t": " "},
    **{"\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "\u200b": " ", "\x01": "", "①": "1"},
    **{"™": "TM", "\ufeff": "", "a\u0308\u0301": "x", "\u1100\u1161": "가", "\u2028": " "},
}
TEXTS = [
    "",
    " ",
    "   ",
    "the cat",
    "  the   cat  ",
    "\t the\ncat\r\n\u00a0\u00a0the\u3000x\u2028",
    "``the'' '''cat''' ````` `'` ''''''",
    "abababab aaaa baab",
    "Café CAFÉ naïve e\u0301 ｅ\u0301 ﬁn ﬀ ① ™\u0301",
    "你好，世界！ 😀😀 👩\u200d👩\u200d👧 \ufeffthe\u200bcat",
    "▁▁ the▁cat ▁",
    "\r\n\u0301the \n\u0301 \u0600e\u0301 e\u0301\u0301 a\u0308\u0301 \u1100\u1161\u1100\u1161",
    "zzz zqz qzt ззз ½",
    "x" * 300,
    "ab" * 200 + "q" + "你好" * 200,
    "İ ΣΑΣ ǅ ß",
]


def charsmap(table: dict[str, str]) -> bytes:
    """SentencePiece's table, each node of its trie in a block of its own."""
    pool, root = b"", {}
    for key, value in table.items():
        node = root
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[None] = len(pool)
        pool += value.encode() + b"\0"
    units = [0] * 256

    def fill(base, node):
        for label, child in node.items():
            if label is None:
                units[base] = 1 << 31 | child
                continue
            below = len(units)
            units.extend([0] * 256)
            offset = (base + label) ^ below
            units[base + label] = label | (None in child) << 8 | offset << 10
            fill(below, child)

    fill(0, root)
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + pool


def vocab_of(special: list[str], words: list[str] = WORDS) -> list[list]:
    """Pieces with scores; shorter ones are less likely."""
    scores = {word: -9.0 + len(word) - 0.125 * (place % 5) for place, word in enumerate(words)}
    last = ["<mask>"] if special is XLM_ROBERTA else []
    return [
        *([piece, 0.0] for piece in special),
        *([word, scores[word]] for word in words),
        *([piece, 0.0] for piece in last),
    ]


def precompiled(table: dict[str, str] = TABLE) -> dict:
    """The step of `tokenizer.json` with the table."""
    encoded = base64.b64encode(charsmap(table)).decode()
    return {"type": "Precompiled", "precompiled_charsmap": encoded}


def values_of(vocab: list[list], *, normalizers=(), splitters=None) -> dict:
    """A `tokenizer.json`."""
    names = [piece for piece, _ in vocab]
    start, end = ("[CLS]", "[SEP]") if "[CLS]" in names else ("<s>", "</s>")
    segment, between = (1, 1) if start == "[CLS]" else (0, 2)

    def token(piece, of=0):
        return {"SpecialToken": {"id": piece, "type_id": of}}

    def text(name, of=0):
        return {"Sequence": {"id": name, "type_id": of}}

    single = [token(start), text("A"), token(end)]
    pair = [*single, *[token(end)] * (between - 1), text("B", segment), token(end, segment)]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    splitters = [{"type": "WhitespaceSplit"}, metaspace] if splitters is None else splitters
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": names.index(piece),
                "content": piece,
                **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
                "special": True,
            }
            for piece in names
            if piece[:1] in "<[" and len(piece) > 1
        ],
        "normalizer": {"type": "Sequence", "normalizers": list(normalizers)},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": splitters},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": pair,
            "special_tokens": {
                piece: {"id": piece, "ids": [names.index(piece)], "tokens": [piece]}
                for piece in (start, end)
            },
        },
        "decoder": None,
        "model": {
            "type": "Unigram",
            "unk_id": names.index("<unk>"),
            "vocab": vocab,
            "byte_fallback": False,
        },
    }


def write(folder: Path, values: dict, settings: dict | None = None) -> Path:
    """Write a model folder's files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(values), "utf-8")
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def library(values: dict) -> tokenizers.Tokenizer:
    """What Hugging Face's tokenizers make of it."""
    return tokenizers.Tokenizer.from_str(json.dumps(values))


def sentence_piece(
    pieces: list[tuple[str, float, int]], *, table: bytes = b"", trainer: dict | None = None
) -> bytes:
    """SentencePiece's own file: pieces with score and type; numbers of TrainerSpec by field."""

    def varint(value):
        found = b""
        while value > 0x7F:
            found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
        return found + bytes([value])

    def message(number, content):
        return varint(number << 3 | 2) + varint(len(content)) + content

    found = b""
    for piece, score, kind in pieces:
        inner = message(1, piece.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score)
        found += message(1, inner + (varint(3 << 3) + varint(kind) if kind != 1 else b""))
    numbers = {3: 1, **(trainer or {})}
    found += message(2, b"".join(varint(n << 3) + varint(value) for n, value in numbers.items()))
    return found + message(3, message(1, b"nmt_nfkc") + message(2, table))
