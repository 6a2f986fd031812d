"""A vocabulary: pieces in order, and the ids that have a meaning of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tfmodel.config import ConfigError

SPECIAL_PIECES = {
    "padding": "[PAD]",
    "unknown": "[UNK]",
    "start": "[CLS]",
    "end": "[SEP]",
    "mask": "[MASK]",
}
"""BERT's special pieces by role. A vocabulary must hold all but the mask."""


class Vocabulary:
    """The pieces of a vocabulary, in the order of their ids.

    Args:
        pieces: distinct strings; `pieces[i]` has id i; continuations of WordPiece start with `##`.
        name: what messages call this vocabulary, usually the file it came from.
        special: its special pieces by role, as in `SPECIAL_PIECES`.

    Raises:
        ConfigError: a piece stands twice, or a special piece is missing.
    """

    def __init__(
        self,
        pieces: Sequence[str],
        *,
        name: str = "vocabulary",
        special: Mapping[str, str] = SPECIAL_PIECES,
    ):
        self.pieces = list(pieces)
        self.special = dict(special)
        self.ids = {piece: index for index, piece in enumerate(self.pieces)}
        if len(self.ids) != len(self.pieces):
            seen: set[str] = set()
            twice = next(p for p in self.pieces if p in seen or seen.add(p))
            raise ConfigError(
                f"{name}: expected every piece once. Received: {twice!r} more than once. "
                "Remove the second line: ids are line numbers."
            )
        for role, piece in special.items():
            if piece not in self.ids and role != "mask":
                kind = (
                    "a BERT WordPiece vocabulary, one piece a line,"
                    if special is SPECIAL_PIECES
                    else "a vocabulary"
                )
                raise ConfigError(
                    f"{name}: expected {kind} with {', '.join(special.values())}. "
                    f"Received: {len(self.pieces)} pieces without {piece}."
                )
        self.padding_id = self.ids[special["padding"]]
        self.unknown_id = self.ids[special["unknown"]]
        self.start_id = self.ids[special["start"]]
        self.end_id = self.ids[special["end"]]
        self.mask_id = self.ids.get(special["mask"])

    @classmethod
    def from_file(cls, path: str | Path) -> Vocabulary:
        """Read a `vocab.txt`: UTF-8, one piece a line, the line number is the id.

        Raises:
            ConfigError: no such file, not UTF-8, or not a BERT vocabulary.
        """
        path = Path(path)
        try:
            text = path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            raise ConfigError(f"Expected a vocabulary file. Received: no file at {path}.") from None
        except IsADirectoryError:
            raise ConfigError(f"Expected a vocabulary file. Received: {path}, a folder.") from None
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{path}: expected a UTF-8 text file, one piece a line. Received: byte "
                f"{error.start} is not UTF-8."
            ) from None
        # Only \n ends a line: Chinese vocabularies hold pieces such as \u2028.
        lines = text.split("\n")
        if lines and lines[-1] == "":
            lines.pop()
        return cls([line.rstrip("\r") for line in lines], name=str(path))

    @property
    def is_cased(self) -> bool:
        """Whether a piece has upper-case letters, but for special ones in brackets."""
        return any(
            piece != piece.lower()
            for piece in self.pieces
            if not (piece.startswith("[") and piece.endswith("]"))
        )

    def save(self, path: str | Path) -> None:
        """Write the pieces as a `vocab.txt`."""
        Path(path).write_bytes(("\n".join(self.pieces) + "\n").encode("utf-8"))

    def __len__(self) -> int:
        return len(self.pieces)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.pieces == other.pieces

    __hash__ = None
