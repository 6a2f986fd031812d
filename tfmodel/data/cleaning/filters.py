"""Which cleaned texts are left out for what they are."""

from __future__ import annotations

from tfmodel.data.cleaning.language import sure_of_other_language
from tfmodel.data.cleaning.script import share_in_scripts
from tfmodel.data.cleaning.settings import CleaningSettings


def reason_to_drop(text: str, settings: CleaningSettings) -> str:
    """Tell why a cleaned text is left out.

    Args:
        text: a text after cleaning.
        settings: what is wanted.

    Returns:
        `too_short`, `other_script`, `other_language`, or "" for a text that stays.

    Raises:
        ConfigError: the extra `language` is needed and not installed.
    """
    if len(text) < settings.min_characters:
        return "too_short"
    if settings.scripts and share_in_scripts(text, settings.scripts) < settings.min_script_share:
        return "other_script"
    if settings.languages:
        sure = sure_of_other_language(text, settings.languages)
        if sure >= settings.min_language_confidence:
            return "other_language"
    return ""


def check_filters(settings: CleaningSettings) -> None:
    """Meet what is not installed before the first row rather than in a worker.

    Raises:
        ConfigError: the extra `language` is needed and not installed.
    """
    if settings.languages:
        sure_of_other_language("", settings.languages)
