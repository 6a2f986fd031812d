"""Whether a document repeats itself more than text does.

Source: Rae et al. 2021 (Gopher), table A1: a document goes if one of the shares is above its limit.
We deviate in three things: a document has lines, no paragraphs; where a script has no spaces, two
characters are a word; documents of less than 50 words, which Gopher leaves out, are judged by their
lines alone, as a name that stands twice is a fifth of such a text.
"""

from __future__ import annotations

import numpy as np

from tfmodel.data.corpus.words import hashed_runs, hashed_words, pieces_a_word

# Share of the lines that stand in the document before, and of the characters in them.
MOST_LINES_REPEATED, MOST_CHARACTERS_REPEATED = 0.3, 0.2
# Share of the characters that the most frequent run of so many words takes.
MOST_IN_TOP_RUN = {2: 0.20, 3: 0.18, 4: 0.16}
# Share of the characters in runs of so many words that stand in the document before.
MOST_IN_REPEATED_RUNS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
_LEAST_WORDS = 50


def find_repetition(text: str) -> str:
    """Say in what a document repeats itself too much: `0.35 of the lines ...`; "" where it doesn't.

    Args:
        text: of the document, with its lines.
    """
    return _in_lines(text) or _in_words(text)


def _in_lines(text: str) -> str:
    lines = text.split("\n")
    if len(lines) == len(set(lines)):
        return ""
    seen: set[str] = set()
    repeated = characters = 0
    for line in lines:
        if line in seen:
            repeated += 1
            characters += len(line)
        seen.add(line)
    if repeated > MOST_LINES_REPEATED * len(lines):
        return f"{repeated / len(lines):.2f} of the lines repeat earlier ones"
    if characters > MOST_CHARACTERS_REPEATED * len(text):
        return f"{characters / len(text):.2f} of the characters are in lines that repeat others"
    return ""


def _in_words(text: str) -> str:
    hashes, lengths = hashed_words(text)
    pieces = pieces_a_word(text)
    if len(hashes) < _LEAST_WORDS * pieces:
        return ""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    total = max(1, int(ends[-1]))
    for length, most in MOST_IN_TOP_RUN.items():
        share = _in_top_run(hashes, ends, length * pieces) / total
        if share > most:
            return f"{share:.2f} of the characters are in one run of {length} words"
    for length, most in MOST_IN_REPEATED_RUNS.items():
        share = _in_repeated_runs(hashes, lengths, length * pieces) / total
        if share > most:
            return f"{share:.2f} of the characters are in repeated runs of {length} words"
        if share <= min(MOST_IN_REPEATED_RUNS.values()):
            break  # what is in longer runs is in shorter ones, too
    return ""


def _in_top_run(hashes: np.ndarray, ends: np.ndarray, length: int) -> int:
    runs = hashed_runs(hashes, length)
    _, firsts, counts = np.unique(runs, return_index=True, return_counts=True)
    if counts.max() < 2:
        return 0
    characters = (ends[firsts + length] - ends[firsts]) * counts
    return int(characters[counts == counts.max()].max())


def _in_repeated_runs(hashes: np.ndarray, lengths: np.ndarray, length: int) -> int:
    runs = hashed_runs(hashes, length)
    _, firsts = np.unique(runs, return_index=True)
    if len(firsts) == len(runs):
        return 0
    is_repeat = np.ones(len(runs), np.int64)
    is_repeat[firsts] = 0
    change = np.zeros(len(lengths) + 1, np.int64)
    change[: len(runs)] += is_repeat
    change[length : length + len(runs)] -= is_repeat
    return int(lengths[np.cumsum(change)[:-1] > 0].sum())
