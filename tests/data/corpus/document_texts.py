"""Documents for tests: of words in any number, no two alike."""

import random

WORDS = [f"{first}{second}" for first in "bdfgklmnprst" for second in ("am", "ero", "ilo", "un")]


def document(seed: int, words: int = 60, lines: int = 3) -> str:
    """Give a text of some lines of sentences."""
    generator = random.Random(seed)
    parts = []
    for _ in range(lines):
        chosen = [generator.choice(WORDS) for _ in range(words // lines)]
        parts.append(" ".join(chosen).capitalize() + f" {generator.randrange(10**6)}.")
    return "\n".join(parts)


def as_wiki(documents: list[str]) -> str:
    """Write documents as WikiExtractor does."""
    return "".join(
        f'<doc id="{n}" url="u" title="Title {n}">\nTitle {n}\n\n{text}\n\n</doc>\n'
        for n, text in enumerate(documents)
    )
