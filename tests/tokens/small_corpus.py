"""Documents of made-up words, enough of them for statistics, and their vocabulary."""

import random

from tfmodel.tokens import Tokenizer, Vocabulary

SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
RESERVED = ["[unused0]", "[unused1]", "[EMAIL]"]
PIECES = [*SPECIAL, *RESERVED, ".", "!", "[", *SYLLABLES, *(f"##{each}" for each in SYLLABLES)]


def vocabulary() -> Vocabulary:
    return Vocabulary(PIECES)


def tokenizer() -> Tokenizer:
    return Tokenizer(vocabulary())


def texts(count: int, *, seed: int = 0, longest: int = 40) -> list[str]:
    """Documents of 1 to `longest` sentences of 3 to 14 words of 1 to 3 pieces; a few unknown."""
    chance = random.Random(seed)
    return [
        " ".join(sentence(chance) for _ in range(chance.randint(1, longest))) for _ in range(count)
    ]


def sentence(chance: random.Random) -> str:
    words = [
        "".join(chance.choices(SYLLABLES, k=chance.choice([1, 1, 1, 1, 1, 1, 2, 2, 2, 3])))
        for _ in range(chance.randint(3, 14))
    ]
    if chance.random() < 0.1:
        words[-1] = "xx"  # in no vocabulary
    return f"{words[0].capitalize()} {' '.join(words[1:])}{chance.choice('.!')}"
