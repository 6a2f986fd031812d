"""Which language a text is in: py3langid, a Bayes classifier over byte n-grams.

Chosen among detectors that a company may use and that need no network, by `benchmarks/language.py`:
it is small, knows 139 languages, and tells how sure it is, which holds for short texts too.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import TYPE_CHECKING

from tfmodel.config import ConfigError

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

# What py3langid 0.4 tells apart, by ISO 639 code.
LANGUAGES = tuple(
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu "
    "ext fa fi fo fr fuv fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is "
    "it ja jv ka kab kik kk km kn ko ku ky la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne "
    "nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl sn so sq sr st sv sw ta "
    "te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu".split()
)
_NO_LANGUAGE = "zxx"  # numbers, markup, identifiers
# Enough to be sure by; the time a row takes stays bounded.
_READ_CHARACTERS = 1000


def sure_of_other_language(text: str, languages: Collection[str]) -> float:
    """Tell how sure it is that a text is in none of some languages, by its first 1,000 characters.

    Args:
        text: any string.
        languages: ISO 639 codes of `LANGUAGES`.

    Returns:
        0 where one of the languages, or none at all, is the likeliest; otherwise the likeliest
        one's probability as a share of its and theirs, in [0, 1]. That is low for texts that are
        too short to tell, and for a text in Russian it does not matter how near Bulgarian is.

    Raises:
        ConfigError: the extra `language` is not installed.
    """
    identifier = _identifier()
    text = text[:_READ_CHARACTERS]
    likeliest, probability = identifier.classify(text)
    if likeliest in languages or likeliest == _NO_LANGUAGE:
        return 0.0
    wanted = sum(share for language, share in identifier.rank(text) if language in languages)
    return probability / (probability + wanted)


@functools.cache
def _identifier() -> LanguageIdentifier:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise ConfigError(
            "data.cleaning.languages: expected the package py3langid. Received: none installed. "
            "Run: pip install 'tfmodel[language]'"
        ) from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
