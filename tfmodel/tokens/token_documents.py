"""A corpus as token ids on disk: written once, mapped into memory, read from any place."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import logging
import os
import shutil
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.run_folder import word_full_disk, write_aside
from tfmodel.tokens.segmentation import sentence_starts, word_starts

if TYPE_CHECKING:
    from tfmodel.tokens.tokenizer import Tokenizer
    from tfmodel.tokens.vocabulary import Vocabulary

_log = logging.getLogger(__name__)

FACTS = "tokens.json"
STARTS_WORD, STARTS_SENTENCE = 1, 2
"""Bits of a token's mark."""

_VERSION = 1
_CHARACTERS_AT_ONCE = 1_000_000
_TEXTS_AT_ONCE = 4096
_SECONDS_BETWEEN_SAVES = 20.0


class TokenDocuments:
    """Tokenized documents in a folder, one after the other; nothing is read before it is used.

    `ids.npy`, `marks.npy` and `splits.npy` are plain NumPy arrays, `tokens.json` says what they
    are of.

    Args:
        folder: where `write_token_documents` put them.

    Attributes:
        ids: uint16 or int32 (n,), the ids of all documents, without special tokens.
        marks: uint8 (n,), bits of each token: `STARTS_WORD`, and `STARTS_SENTENCE` where sentences
            were looked for.
        splits: int64 (d + 1,); document i is `ids[splits[i]:splits[i + 1]]`.
        sentences: whether sentences were looked for.
        words: what a word is: None, pieces up to the next that does not begin with ##; or the
            name of the segmenter.
        vocabulary_key: a hash of the vocabulary and the way of splitting.
        account: counts of documents, those without a token, tokens and unknown tokens.

    Raises:
        ConfigError: no token documents, or half of them.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        path = self.folder / FACTS
        try:
            facts = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise ConfigError(
                f"Expected token documents. Received: no {FACTS} in {self.folder}. Write them with "
                "write_token_documents, or run the tokens stage."
            ) from None
        except ValueError as error:
            raise ConfigError(f"{path}: expected JSON. Received: {error}.") from None
        if not isinstance(facts, dict) or facts.get("version") != _VERSION:
            raise ConfigError(
                f"{path}: expected token documents of version {_VERSION}. Received: another file. "
                "Delete the folder and write them anew."
            )
        self.sentences = bool(facts["sentences"])
        self.words: str | None = facts["words"]
        self.vocabulary_key: str = facts["vocabulary"]
        self.account: dict[str, int] = facts["account"]
        self._content: str = facts["content"]
        self.ids = self._map("ids")
        self.marks = self._map("marks")
        self.splits = self._map("splits")
        sizes = (len(self.ids), len(self.marks), int(self.splits[-1]), len(self.splits) - 1)
        tokens, documents = self.account["tokens"], self.account["documents"]
        if sizes != (tokens, tokens, tokens, documents):
            raise ConfigError(
                f"{self.folder}: expected {tokens} tokens in {documents} documents. Received: "
                f"arrays of {sizes}. Delete the folder and write them anew."
            )

    def _map(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        try:
            # An empty file cannot be mapped.
            mode = "r" if path.stat().st_size > 128 else None
            return np.load(path, mmap_mode=mode, allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise ConfigError(
                f"{path}: expected an array of token documents. Received: {error}. Delete the "
                "folder and write them anew."
            ) from None

    def __len__(self) -> int:
        """Documents."""
        return len(self.splits) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """The ids of one document."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return np.asarray(self.ids[self.splits[index] : self.splits[index + 1]])

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document: int64 (d,)."""
        return np.diff(self.splits)

    @property
    def fingerprint(self) -> str:
        """Equal for equal documents."""
        return self._content

    def require(self, vocabulary: Vocabulary) -> None:
        """Refuse another vocabulary than the documents were made with.

        Raises:
            ConfigError: it is another one.
        """
        pieces = vocabulary_key(vocabulary)
        if self.vocabulary_key.partition(":")[0] != pieces:
            raise ConfigError(
                f"{self.folder}: expected the vocabulary that the documents were tokenized with. "
                f"Received: another one, of {len(vocabulary)} pieces. Tokenize the corpus anew."
            )


def vocabulary_key(vocabulary: Vocabulary) -> str:
    """A short hash of the pieces in their order."""
    return hashlib.sha256("\n".join(vocabulary.pieces).encode("utf-8")).hexdigest()[:16]


def write_token_documents(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    words: Literal["jieba"] | None = None,
    sentences: bool = False,
    workers: int | None = None,
    total: int | None = None,
    key: str = "",
) -> TokenDocuments:
    """Tokenize documents, on all cores, into a folder that appears when it is whole.

    Memory does not grow with the texts. What an interrupted call has done is found beside the
    folder by the next one with the same tokenizer and options: the texts it has done are read
    again, compared by their checksum, and not tokenized again.

    Args:
        texts: the documents, in an order that is the same each time. One without a token is
            counted and left out.
        tokenizer: the tokenizer; its `max_length` does not matter.
        folder: where to; what stood there is replaced.
        words: `jieba` marks Chinese words by a segmenter (extra `chinese`); by default a word is
            what WordPiece splits, and each Chinese character one.
        sentences: mark sentences, by rules for English and Chinese; takes twice as long.
        workers: threads; as many as cores by default.
        total: number of texts, where it is known: for the progress.
        key: what the texts depend on, such as the corpus' fingerprint: with another one nothing
            is taken over from an interrupted call.

    Raises:
        ConfigError: the extra `chinese` is not installed; or `texts` can be read but once and are
            not those of the interrupted call, whose work is then removed: call again.
    """
    from tfmodel.data.progress import bar

    folder = Path(os.path.abspath(folder))
    vocabulary = tokenizer.vocabulary
    splitting = f"{vocabulary_key(vocabulary)}:{'lower' if tokenizer.lowercase else 'cased'}"
    facts = {
        "version": _VERSION,
        "vocabulary": splitting,
        "words": words,
        "sentences": bool(sentences),
    }
    if words is not None:
        word_starts("")  # says what is missing before any work
    aside = folder.with_name(f".{folder.name}.unfinished")
    unfinished = _Unfinished(aside, facts, key, pieces=len(vocabulary))
    workers = workers or os.cpu_count() or 1
    make = _Tokenize(tokenizer, words=words, sentences=sentences)
    remaining = unfinished.remaining(texts)
    with (
        _wording_full_disk(folder),
        unfinished,
        bar(total, "tokens", unit=" texts") as shown,
        ThreadPoolExecutor(workers) as pool,
    ):
        shown.update(unfinished.done.texts)
        waiting: deque = deque()
        try:
            for chunk in _batches(remaining):
                waiting.append((chunk, pool.submit(make, chunk)))
                if len(waiting) > 2 * workers:
                    _append(unfinished, *waiting.popleft(), shown)
            while waiting:
                _append(unfinished, *waiting.popleft(), shown)
        finally:
            for _, future in waiting:
                future.cancel()
        unfinished.finish(folder)
    return TokenDocuments(folder)


@contextlib.contextmanager
def _wording_full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = word_full_disk(error, folder)
        if full is None:
            raise
        raise full from error


def _append(unfinished: _Unfinished, chunk: list[str], future, shown) -> None:
    unfinished.append(chunk, future.result())
    shown.update(len(chunk))


class _Made(NamedTuple):
    ids: np.ndarray
    marks: np.ndarray
    lengths: np.ndarray
    unknown: int


class _Tokenize:
    """Texts to ids, marks and lengths."""

    def __init__(self, tokenizer: Tokenizer, *, words: str | None, sentences: bool):
        self.tokenizer = tokenizer
        self.words = words
        self.sentences = sentences
        pieces = tokenizer.vocabulary.pieces
        self.begins = np.array([not piece.startswith("##") for piece in pieces])

    def __call__(self, texts: list[str]) -> _Made:
        parts = [list(_parts(text)) for text in texts]
        made = [self._parts(batch) for batch in _batches([p for group in parts for p in group])]
        ids, marks, lengths = (
            np.concatenate([each[place] for each in made] or [np.empty(0, np.int64)])
            for place in range(3)
        )
        ends = np.cumsum([0, *map(len, parts)])
        before = np.concatenate([[0], np.cumsum(lengths)])
        lengths = np.diff(before[ends])
        starts = before[ends[:-1]][lengths > 0]
        marks[starts] |= STARTS_WORD | (STARTS_SENTENCE if self.sentences else 0)
        unknown = int((ids == self.tokenizer.vocabulary.unknown_id).sum())
        return _Made(ids, marks, lengths, unknown)

    def _parts(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # What is no character (half of a surrogate pair) becomes "?", one for one.
        given = [text.encode("utf-8", "replace") for text in texts]
        if self.words is None and not self.sentences:
            ragged = self.tokenizer.tokenize(given)
            ids = ragged.flat_values.numpy()
            return ids, self.begins[ids].astype(np.uint8), ragged.row_lengths().numpy()
        ragged, starts, _ = self.tokenizer.tokenize_with_offsets(given)
        ids, lengths = ragged.flat_values.numpy(), ragged.row_lengths().numpy()
        bases = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
        places = starts.flat_values.numpy() + np.repeat(bases[:-1], lengths)
        marks = self.begins[ids].astype(np.uint8)
        if self.words is not None:
            found = np.concatenate(
                [word_starts(t) + b for t, b in zip(texts, bases[:-1], strict=True)]
            )
            word = np.searchsorted(found, places, side="right")
            marks[1:] &= word[1:] != word[:-1]
        if self.sentences:
            found = np.concatenate(
                [sentence_starts(t) + b for t, b in zip(texts, bases[:-1], strict=True)]
            )
            first = np.searchsorted(places, found)
            marks[first[first < len(marks)]] |= STARTS_SENTENCE
        return ids, marks, lengths


def _parts(text: str) -> Iterator[str]:
    """Cut a very long text where nothing is cut through, if there is such a place."""
    while len(text) > _CHARACTERS_AT_ONCE:
        for end in ("\n", " "):
            cut = text.rfind(end, _CHARACTERS_AT_ONCE // 2, _CHARACTERS_AT_ONCE) + 1
            if cut:
                break
        cut = cut or _CHARACTERS_AT_ONCE
        yield text[:cut]
        text = text[cut:]
    yield text


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of texts, as many as are tokenized at once."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        if batch and (len(batch) == _TEXTS_AT_ONCE or characters + len(text) > _CHARACTERS_AT_ONCE):
            yield batch
            batch, characters = [], 0
        batch.append(text)
        characters += len(text)
    if batch:
        yield batch


# --- on disk ------------------------------------------------------------------------------


@dataclasses.dataclass
class _Done:
    """How far the work is: what of the files counts."""

    texts: int = 0
    documents: int = 0
    tokens: int = 0
    unknown: int = 0
    checksum: int = 0  # of the texts
    content: tuple[int, ...] = (0, 0, 0)  # of the files


class _Unfinished:
    """Arrays that grow, and how far they are whole."""

    def __init__(self, folder: Path, facts: dict[str, Any], key: str, *, pieces: int):
        self.folder = folder
        self.facts = facts
        self.key = key
        self.dtype = np.dtype(np.uint16 if pieces <= 2**16 else np.int32)
        self.done = _Done()
        self._saved = time.monotonic()
        self._files: dict[str, BinaryIO] = {}
        self._types = {"ids": self.dtype, "marks": np.dtype(np.uint8), "splits": np.dtype(np.int64)}
        found = self._read()
        if found is None:
            self._begin()
        else:
            self.done = found

    def _read(self) -> _Done | None:
        try:
            facts = json.loads((self.folder / "done.json").read_text("utf-8"))
            done = _Done(**facts["done"])
            for name, size in self._sizes(done).items():
                if (self.folder / f"{name}.npy").stat().st_size < size:
                    return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return done if (facts["facts"], facts["key"]) == (self.facts, self.key) else None

    def _sizes(self, done: _Done) -> dict[str, int]:
        counts = {"ids": done.tokens, "marks": done.tokens, "splits": done.documents + 1}
        return {
            name: len(_header(dtype, 0)) + counts[name] * dtype.itemsize
            for name, dtype in self._types.items()
        }

    def _begin(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.done = _Done()
        for name, dtype in self._types.items():
            content = np.zeros(1, dtype).tobytes() if name == "splits" else b""
            (self.folder / f"{name}.npy").write_bytes(_header(dtype, 0) + content)

    def remaining(self, texts: Iterable[str]) -> Iterator[str]:
        """Read over what is done already; begin anew where it is not the same."""
        if not self.done.texts:
            return iter(texts)
        remaining = iter(texts)
        checksum, count = 0, 0
        for text in itertools.islice(remaining, self.done.texts):
            checksum = zlib.crc32(text.encode("utf-8", "replace"), checksum)
            count += 1
        if (count, checksum) == (self.done.texts, self.done.checksum):
            _log.info("goes on after %d texts that are tokenized", count)
            return remaining
        self._begin()
        if remaining is texts:
            raise ConfigError(
                f"{self.folder}: expected the texts whose tokenization was interrupted. Received: "
                "others. What was left is removed: start again."
            )
        return iter(texts)

    def __enter__(self) -> _Unfinished:
        for name, size in self._sizes(self.done).items():
            file = open(self.folder / f"{name}.npy", "r+b")  # noqa: SIM115
            file.truncate(size)
            file.seek(size)
            self._files[name] = file
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is not None and not any(file.closed for file in self._files.values()):
            with contextlib.suppress(OSError):  # the disk may be full
                self._save()
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()

    def append(self, texts: list[str], made: _Made) -> None:
        """Add what was made of texts."""
        done = dataclasses.replace(self.done)
        lengths = made.lengths[made.lengths > 0]
        splits = done.tokens + np.cumsum(lengths)
        sums = []
        for before, name, values in zip(
            done.content, self._types, (made.ids, made.marks, splits), strict=True
        ):
            written = np.ascontiguousarray(values, self._types[name]).tobytes()
            self._files[name].write(written)
            sums.append(zlib.crc32(written, before))
        done.content = tuple(sums)
        for text in texts:
            done.checksum = zlib.crc32(text.encode("utf-8", "replace"), done.checksum)
        done.texts += len(texts)
        done.documents += len(lengths)
        done.tokens += len(made.ids)
        done.unknown += made.unknown
        self.done = done  # only now: what is written by half does not count
        if time.monotonic() - self._saved > _SECONDS_BETWEEN_SAVES:
            self._save()

    def _save(self) -> None:
        """Let the next start go on from here."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        facts = {"facts": self.facts, "key": self.key, "done": dataclasses.asdict(self.done)}
        with write_aside(self.folder / "done.json") as aside:
            aside.write_text(json.dumps(facts))
        self._saved = time.monotonic()

    def finish(self, folder: Path) -> None:
        """Give the arrays their sizes and the folder its name."""
        done = self.done
        counts = {"ids": done.tokens, "marks": done.tokens, "splits": done.documents + 1}
        for name, file in self._files.items():
            file.seek(0)
            file.write(_header(self._types[name], counts[name]))
            file.close()
        facts = {
            **self.facts,
            "content": "-".join(
                [self.facts["vocabulary"], *(f"{each:08x}" for each in done.content)]
            ),
            "account": {
                "texts": done.texts,
                "documents": done.documents,
                "empty": done.texts - done.documents,
                "tokens": done.tokens,
                "unknown": done.unknown,
            },
        }
        with write_aside(self.folder / FACTS) as aside:
            aside.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
        (self.folder / "done.json").unlink(missing_ok=True)
        with write_aside(folder, replace=True) as aside:
            self.folder.rename(aside)


def _header(dtype: np.dtype, count: int) -> bytes:
    """Of a NumPy file; of the same size for every count."""
    out = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(out, {**header, "shape": (count,)})
    return out.getvalue()
