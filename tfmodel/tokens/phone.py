"""How a phone tokenizes: MediaPipe Tasks and the older tflite-support Task Library alike.

Both lower-case ASCII letters whatever the vocabulary, and do nothing else to a text: no Unicode
normalization, no accents stripped, no control characters removed.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Sequence

from tfmodel.tokens.vocabulary import Vocabulary

_LONGEST_WORD_BYTES = 100
_CHINESE = (
    "\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f"
    "\U0002b820-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f"
)


class PhoneTokenizer:
    """Ids as the tokenizer on a phone makes them, in plain Python.

    Args:
        vocabulary: the WordPiece vocabulary inside the `.tflite` file.

    Source: bert_tokenizer.cc and bert_preprocessor_calculator.cc in google-ai-edge/mediapipe,
    regex_split.cc and wordpiece_tokenizer.cc in tensorflow/text.
    """

    def __init__(self, vocabulary: Vocabulary):
        self._vocabulary = vocabulary
        self._ids_of_word = functools.lru_cache(maxsize=100_000)(self._split)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Piece ids of each text, without special tokens or truncation."""
        return [
            [piece for word in self._words(text) for piece in self._ids_of_word(word)]
            for text in texts
        ]

    def _words(self, text: str) -> list[str]:
        # A zero byte ends the text there, and bytes.lower() changes ASCII alone, as they do.
        text = text.split("\0", 1)[0]
        lowered = text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")
        return [word for word in _delimiter().split(lowered) if word and word not in " \t\n\f\r"]

    def _split(self, word: str) -> tuple[int, ...]:
        """Greedily from the left, longest piece first."""
        unknown = (self._vocabulary.unknown_id,)
        if len(word.encode("utf-8", "surrogatepass")) > _LONGEST_WORD_BYTES:
            return unknown
        ids, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                piece = self._vocabulary.ids.get(prefix + word[start:end])
                if piece is not None:
                    break
            else:
                return unknown
            ids.append(piece)
            start = end
        return tuple(ids)


@functools.cache
def _delimiter() -> re.Pattern:
    """White space, which is dropped, or a mark or Chinese character, which is a word itself."""
    marks = "".join(
        re.escape(character)
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character)[0] == "P"
    )
    return re.compile(rf"[ \t\n\f\r]|([!-/:-@\[-`{{-~{marks}{_CHINESE}])")
