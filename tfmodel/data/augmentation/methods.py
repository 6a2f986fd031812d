"""The methods of augmentation: each makes one new version of each draft it is given.

Words are drawn by the draft's own random state, so a version depends on its row alone.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence

from tfmodel.config import ConfigError
from tfmodel.data.augmentation.passage import Passage, is_unspaced
from tfmodel.data.augmentation.synonyms import Synonyms

MASK = "[MASK]"
Replace = Callable[[Sequence[str], Sequence[str]], Sequence[Sequence[str]]]
Translate = Callable[[Sequence[str]], Sequence[str]]

_TEXTS_AT_ONCE = 256
_SHORTEST_MISTYPED = 4  # letters; shorter words become other words
_ROWS_OF_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


@dataclasses.dataclass(frozen=True)
class Draft:
    """A text to make a version of, with its own random state."""

    passage: Passage
    random: random.Random


@dataclasses.dataclass(frozen=True)
class Tools:
    """What methods work with: the share of words to change, a list, the user's callables."""

    rate: float
    synonyms: Synonyms = dataclasses.field(default_factory=dict)
    replace: Replace | None = None
    translate: Translate | None = None


Method = Callable[[Sequence[Draft], Tools], list[str]]


def _each(change: Callable[[Draft, Tools], Passage]) -> Method:
    def method(drafts: Sequence[Draft], tools: Tools) -> list[str]:
        return [change(draft, tools).text() for draft in drafts]

    return method


def _draw(draft: Draft, tools: Tools, positions: Sequence[int]) -> list[int]:
    """Draw as many positions as the rate says of all words, at least one, of those offered."""
    count = max(1, round(tools.rate * len(draft.passage.words)))
    return draft.random.sample(positions, min(count, len(positions)))


def delete_words(draft: Draft, tools: Tools) -> Passage:
    """Leave words out; one always stays.

    Source: Wei and Zou 2019 (EDA), random deletion. Deviation: the number of words is the rate
    of all, at least one, where EDA draws for each word.
    """
    count = len(draft.passage.words)
    chosen = _draw(draft, tools, range(count))[: count - 1] if count else []
    return draft.passage.without(set(chosen))


def swap_words(draft: Draft, tools: Tools) -> Passage:
    """Exchange words with others of the text; spaces and punctuation stay where they are.

    Source: Wei and Zou 2019 (EDA), random swap.
    """
    words = list(draft.passage.words)
    if len(words) < 2:
        return draft.passage
    for first in _draw(draft, tools, range(len(words))):
        second = draft.random.choice([n for n in range(len(words)) if n != first])
        words[first], words[second] = words[second], words[first]
    return draft.passage.with_words(dict(enumerate(words)))


def insert_words(draft: Draft, tools: Tools) -> Passage:
    """Put in a synonym of a word of the text at a random place, or the word again.

    Source: Wei and Zou 2019 (EDA), random insertion. Deviation: without a list, or where it has
    none of the text's words, a word of the text itself is put in.
    """
    passage = draft.passage
    words = [word for word in passage.words if word.lower() in tools.synonyms] or passage.words
    for _ in _draw(draft, tools, range(len(passage.words))):
        word = draft.random.choice(words)
        others = tools.synonyms.get(word.lower(), (word,))
        place = draft.random.randrange(len(passage.words))
        passage = passage.with_inserted(place, draft.random.choice(others))
    return passage


def mistype(draft: Draft, tools: Tools) -> Passage:
    """Exchange two neighbouring letters inside a word, leave one out or double one.

    Words of four letters and more; the first letter and the last stay. Chinese has no such
    slips: characters typed for one another by sound go into a list of synonyms.

    Source: Belinkov and Bisk 2018 (swap); Pruthi et al. 2019 (swap, drop, add), who spare the
    same letters. Deviation: what is added is the letter itself.
    """
    return _slip(draft, tools, _mistyped)


def hit_next_key(draft: Draft, tools: Tools) -> Passage:
    """Replace a letter inside a word by one of a neighbouring key of a QWERTY keyboard.

    Words as for `mistype`.

    Source: Belinkov and Bisk 2018 (key); Pruthi et al. 2019 (keyboard).
    """
    return _slip(draft, tools, _next_key)


def replace_by_synonyms(draft: Draft, tools: Tools) -> Passage:
    """Replace words by others of the list, capitals as they were.

    Source: Wei and Zou 2019 (EDA), synonym replacement. Deviation: the list is the user's, and
    says itself which words are never replaced; EDA takes WordNet and spares stop words.
    """
    words = draft.passage.words
    known = [n for n, word in enumerate(words) if word.lower() in tools.synonyms]
    changes = {}
    for position in _draw(draft, tools, known):
        other = draft.random.choice(tools.synonyms[words[position].lower()])
        changes[position] = _capitals_of(words[position], other)
    return draft.passage.with_words(changes)


def replace_by_model(drafts: Sequence[Draft], tools: Tools) -> list[str]:
    """Replace words by what the user's callable proposes for their place.

    Each word is hidden alone, in the text as it was; of the candidates one is drawn.

    Raises:
        ConfigError: the callable answers with something else than a list of words a text.

    Source: Kobayashi 2018, with a masked model in place of a conditioned language model.
    """
    places = [
        (number, position)
        for number, draft in enumerate(drafts)
        for position in _draw(draft, tools, range(len(draft.passage.words)))
    ]
    masked = [drafts[n].passage.with_words({place: MASK}).text() for n, place in places]
    hidden = [drafts[n].passage.words[place] for n, place in places]
    changes: list[dict[int, str]] = [{} for _ in drafts]
    for start in range(0, len(places), _TEXTS_AT_ONCE):
        part = slice(start, start + _TEXTS_AT_ONCE)
        proposed = tools.replace(masked[part], hidden[part])
        _check_answers("replace", proposed, masked[part], list, "a list of words")
        for (number, place), word, candidates in zip(
            places[part], hidden[part], proposed, strict=True
        ):
            others = [each for each in candidates if each.strip() and each.lower() != word.lower()]
            if others:
                other = drafts[number].random.choice(others)
                changes[number][place] = _capitals_of(word, other)
    return [
        draft.passage.with_words(change).text()
        for draft, change in zip(drafts, changes, strict=True)
    ]


def translate_back(drafts: Sequence[Draft], tools: Tools) -> list[str]:
    """Take what the user's callable makes of the texts: a translation there and back.

    Raises:
        ConfigError: the callable answers with something else than a text for each.

    Source: Sennrich et al. 2016; Xie et al. 2020 (UDA) for classification.
    """
    found: list[str] = []
    for start in range(0, len(drafts), _TEXTS_AT_ONCE):
        texts = [draft.passage.text() for draft in drafts[start : start + _TEXTS_AT_ONCE]]
        answers = tools.translate(texts)
        _check_answers("translate", answers, texts, str, "a text")
        found += answers
    return found


METHODS: dict[str, Method] = {
    "deletion": _each(delete_words),
    "swap": _each(swap_words),
    "insertion": _each(insert_words),
    "typos": _each(mistype),
    "keyboard": _each(hit_next_key),
    "synonyms": _each(replace_by_synonyms),
    "replacement": replace_by_model,
    "back_translation": translate_back,
}


def _slip(draft: Draft, tools: Tools, slip: Callable[[str, random.Random], str]) -> Passage:
    words = draft.passage.words
    long_enough = [
        n
        for n, word in enumerate(words)
        if len(word) >= _SHORTEST_MISTYPED and word.isalpha() and not is_unspaced(word)
    ]
    chosen = _draw(draft, tools, long_enough)
    return draft.passage.with_words({n: slip(words[n], draft.random) for n in sorted(chosen)})


def _mistyped(word: str, random: random.Random) -> str:
    place = random.randrange(1, len(word) - 1)
    kind = random.choice(("exchange", "omit", "double"))
    if kind == "exchange":
        place = min(place, len(word) - 3)  # its neighbour is inside, too
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + (word[place] * 2 if kind == "double" else "") + word[place + 1 :]


def _next_key(word: str, random: random.Random) -> str:
    places = [n for n in range(1, len(word) - 1) if word[n].lower() in _NEIGHBOURS]
    if not places:
        return word
    place = random.choice(places)
    slipped = random.choice(_NEIGHBOURS[word[place].lower()])
    return word[:place] + _capitals_of(word[place], slipped) + word[place + 1 :]


def _neighbours() -> dict[str, str]:
    # A row stands half a key to the right of the one above it: a key touches two of that.
    places = {
        key: (column + 0.5 * row, row)
        for row, keys in enumerate(_ROWS_OF_KEYS)
        for column, key in enumerate(keys)
    }
    return {
        key: "".join(
            other
            for other, (x, y) in places.items()
            if other != key and abs(x - column) <= 1 - 0.5 * abs(y - row) and abs(y - row) <= 1
        )
        for key, (column, row) in places.items()
    }


_NEIGHBOURS = _neighbours()


def _capitals_of(word: str, other: str) -> str:
    if word.isupper() and (len(word) > 1 or len(other) == 1):
        return other.upper()
    return other[:1].upper() + other[1:] if word[:1].isupper() else other


def _check_answers(name: str, answers, asked: Sequence[str], kind: type, wanted: str) -> None:
    kinds = (list, tuple) if kind is list else kind
    received = None
    if isinstance(answers, str) or not isinstance(answers, Sequence):
        received = f"{type(answers).__name__}"
    elif len(answers) != len(asked):
        received = f"{len(answers)} answers to {len(asked)} texts"
    elif wrong := [answer for answer in answers if not isinstance(answer, kinds)]:
        received = f"{str(wrong[0])[:60]!r} among them"
    if received is not None:
        raise ConfigError(
            f"{name}: expected a list with {wanted} for each text, in their order. "
            f"Received: {received}. Let the callable answer every text it is given."
        )
