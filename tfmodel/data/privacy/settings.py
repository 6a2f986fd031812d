"""The `privacy:` part of a corpus's settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from tfmodel.config import Settings
from tfmodel.data.privacy.findings import KINDS

DEFAULT_REGIONS = ("US", "GB", "CN")
"""Where English and Chinese texts mostly come from."""


_CODE = {"type": "string", "pattern": "^[A-Z]{2}$"}


class PrivacySettings(Settings):
    """What private is found in texts and replaced by a placeholder of its kind."""

    secret: bool = Field(
        True, description="Keys, tokens, passwords that are assigned, private key blocks."
    )
    email: bool = Field(True, description="E-mail addresses.")
    iban: bool = Field(True, description="Bank accounts (IBAN) with right check digits.")
    identity: bool = Field(
        True, description="National identity and social security numbers of the regions."
    )
    card: bool = Field(True, description="Bank cards with a right check digit (Luhn).")
    ip: bool = Field(True, description="IPv4 and IPv6 addresses.")
    phone: bool = Field(
        True, description="Phone numbers: with +, of the regions, or after a word such as phone."
    )
    regions: list[Annotated[str, Field(json_schema_extra=_CODE)]] = Field(
        list(DEFAULT_REGIONS),
        description="Countries by ISO 3166 code whose phone and identity numbers are known "
        "without a country code.",
        examples=[["US", "GB"], ["CN"], ["DE", "AT", "CH"]],
    )

    @field_validator("regions")
    @classmethod
    def _codes(cls, regions: list[str]) -> list[str]:
        for region in regions:
            if not (len(region) == 2 and region.isascii() and region.isupper()):
                raise ValueError("expected ISO 3166 codes of countries, such as US, GB or CN")
        return regions

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are switched on."""
        return tuple(kind for kind in KINDS if getattr(self, kind))


Switched = PrivacySettings | Literal[True, False]
"""The section, or true for all of it and false for nothing."""
