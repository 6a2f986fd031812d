"""What a look at an artifact brought to light."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something to mend.

    Attributes:
        words: what, where, and the way out.
        refuses: whether the server refuses the artifact for it; otherwise a warning.
    """

    words: str
    refuses: bool = False
