"""What BERT makes of each character, as the table that one TensorFlow Text operation reads.

`FastBertNormalize` replaces every character by a string that it finds in its model. The model that
comes with it rewrites full-width punctuation, which BERT does not, so this one is our own: with it
one pass gives Hugging Face's normalized text and, of every byte, where it came from. Lower-casing
by table also does not depend on the machine's language, as `tf.strings.lower` does (in a Turkish
locale it makes a dotless i of every I).
"""

from __future__ import annotations

import functools
import itertools
import unicodedata

import numpy as np

from tfmodel.tokens.double_array import build_double_array

# A letter that is in no vocabulary, for private-use characters are removed from texts.
UNKNOWN_LETTER = "\ue000"

# Marks, punctuation and format characters that Unicode has added since its version 8, where
# Hugging Face's tables end: to them, these are letters.
_YOUNG = """
61d 7fd 890-891 897-89f 8ca-8e2 9fd-9fe a76 afa-aff b53-b55 c04 c3c c77 c84 d00 d3b-d3c d81 eba ece
180f 1885-1886 1abf-1af0 1b4e-1b4f 1b7d-1b7f 1df6-1dfb 2e43-2e4f 2e52-2e5d 2e60-2e63 a82c a8c5 a8ff
a9bd 10d24-10d27 10d69-10d6e 10eab-10ead 10ecb-10ed0 10ef0-10eff 10f46-10f50 10f55-10f59 10f82-10f89
11070 11073-11074 110c2 110cd 111cf 1123e 11241 1133b 113bb-113c0 113ce 113d0 113d2 113d4-113d5
113d7-113d8 113e1-113e2 11438-1143f 11442-11444 11446 1144b-1144f 1145a-1145b 1145d-1145e
11660-1166c 116b9 1182f-11837 11839-1183b 1193b-1193c 1193e 11943-11946 119d4-119d7 119da-119db
119e0 119e2 11a01-11a0a 11a33-11a38 11a3b-11a47 11a51-11a56 11a59-11a5b 11a8a-11a96 11a98-11a9c
11a9e-11aa2 11b00-11b09 11b60 11b62-11b64 11b66 11be1 11c30-11c36 11c38-11c3d 11c3f 11c41-11c45
11c70-11c71 11c92-11ca7 11caa-11cb0 11cb2-11cb3 11cb5-11cb6 11d31-11d36 11d3a 11d3c-11d3d
11d3f-11d45 11d47 11d90-11d91 11d95 11d97 11df0 11ef3-11ef4 11ef7-11ef8 11f00-11f01 11f36-11f3a
11f40 11f42-11f4f 11f5a 11fff 12ff1-12ff2 13430-13440 13447-13455 1611e-16129 1612d-1612f
16d6d-16d6f 16e97-16e9a 16f4f 16fe2 16fe4 1cf00-1cf2d 1cf30-1cf46 1d127-1d128 1d25b-1d25c
1e000-1e006 1e008-1e018 1e01b-1e021 1e023-1e024 1e026-1e02a 1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef
1e4ec-1e4ef 1e5ee-1e5ef 1e5ff 1e6e3 1e6e6 1e6ee-1e6ef 1e6f5 1e944-1e94a 1e95e-1e95f
"""
# Chinese characters that Hugging Face takes for letters, by a slip in one bound of its ranges.
_TAKEN_FOR_LETTERS = range(0x2B820, 0x2B920)
# To Hugging Face these are punctuation, to the operation that splits they are not.
_SEPARATED = "\u166d\U000111c9"
# Marks that have become letters since.
_FORMER_MARKS = "\u1734\U0001171e"

# Where characters are changed; elsewhere stand Chinese, Tangut, surrogates and nothing.
_CHANGED = (
    *(range(0x3400), range(0x4DC0, 0x4E00), range(0xA000, 0xD800), range(0xE000, 0x17000)),
    *(range(0x18D00, 0x20000), _TAKEN_FOR_LETTERS, range(0x2F800, 0x2FA20)),
    *(range(0xE0000, 0xE0200), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE)),
)

# How the operation stores a replacement: a flag, where it stands in the pool, its length in bytes.
_IS_CHANGED, _LENGTH_BITS = 1 << 30, 6


def normalize_character(character: str, *, lowercase: bool) -> str:
    """What BERT's normalizer makes of one character, as Hugging Face's tables have it.

    Args:
        character: one Unicode character.
        lowercase: lower-case and strip accents too.

    Returns:
        Its replacement: nothing, itself, a space, or other characters.

    Source: `BertNormalizer` in Hugging Face's tokenizers, from `BasicTokenizer` in
    google-research/bert; what splits words (punctuation, Chinese) is left to the operation that
    splits, but where the two disagree.
    """
    kind = unicodedata.category(character)
    if ord(character) in _young():
        return UNKNOWN_LETTER if kind[0] == "P" or kind == "Cn" else character
    if ord(character) in _TAKEN_FOR_LETTERS:
        return UNKNOWN_LETTER
    if character in _SEPARATED:
        return f" {character} "
    if character in "\t\n\r" or (character.isspace() and kind != "Cc"):
        return " "
    if kind in ("Cc", "Cf", "Co") or character == "\ufffd":
        return ""
    return _lower_without_accents(character) if lowercase else character


def _lower_without_accents(character: str) -> str:
    # Letter by letter: the end of a Greek word makes no difference here.
    return "".join(
        letter.lower()
        for letter in unicodedata.normalize("NFD", character)
        if unicodedata.category(letter) != "Mn" and letter not in _FORMER_MARKS
    )


@functools.cache
def normalizer_model(*, lowercase: bool) -> bytes:
    """The table as a model of the operation `FastBertNormalize`.

    Args:
        lowercase: lower-case and strip accents too.

    Returns:
        A flatbuffer, to be passed as `model_buffer`.

    Source: fast_bert_normalizer.h in tensorflow/text, `FastBertNormalizerModel`.
    """
    pool, positions, values = bytearray(), {"": 0}, {}
    for character in map(chr, itertools.chain(*_CHANGED)):
        replacement = normalize_character(character, lowercase=lowercase)
        if replacement == character:
            continue
        encoded = replacement.encode("utf-8")
        if replacement not in positions:
            positions[replacement] = len(pool)
            pool += encoded
        place = positions[replacement] << _LENGTH_BITS
        values[character.encode("utf-8")] = _IS_CHANGED | place | len(encoded)
    # The operation's trie cannot hold the zero byte.
    zero = values.pop(b"\0")
    return _flatbuffer(build_double_array(values), zero, bytes(pool))


def _flatbuffer(trie: np.ndarray, zero: int, pool: bytes) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder()
    pool_offset = builder.CreateByteVector(pool)
    trie_offset = builder.CreateNumpyVector(trie)
    builder.StartObject(4)  # field 0, whether accents were stripped, is never read
    builder.PrependUOffsetTRelativeSlot(1, trie_offset, 0)
    builder.PrependInt32Slot(2, zero, 0)
    builder.PrependUOffsetTRelativeSlot(3, pool_offset, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


@functools.cache
def _young() -> frozenset[int]:
    bounds = [[int(bound, 16) for bound in item.split("-")] for item in _YOUNG.split()]
    return frozenset(code for each in bounds for code in range(each[0], each[-1] + 1))
