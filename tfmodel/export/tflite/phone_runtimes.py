"""What phone runtimes take: refused in words before conversion, checked in the file after."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export.settings import PHONE_RUNTIMES
from tfmodel.export.tflite.phone_operations import MEDIAPIPE, TASK_LIBRARY_0_4
from tfmodel.export.tflite.variants import ConversionError
from tfmodel.export.trained import Trained
from tfmodel.tokens.row_tokenizer import RowTokenizer

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A runtime that takes `.tflite` files.

    Attributes:
        shown: its name for people.
        takes_text: whether it tokenizes itself: one text a row, ASCII lower-cased, always.
        has_per_channel: whether it knows int8 matrices with a scale for each column.
        operations: the newest version that it knows of each operation; None for all.
    """

    shown: str
    takes_text: bool
    has_per_channel: bool
    operations: Mapping[str, int] | None = None


RUNTIMES = {
    "task-library-0.4": Runtime("the Task Library 0.4", True, False, TASK_LIBRARY_0_4),
    "mediapipe": Runtime("MediaPipe", True, True, MEDIAPIPE),
    "litert": Runtime("LiteRT", False, True),
}
"""Each takes what those before it take."""
ANSWERER_LENGTH = 384
"""Tokens that the Task Library's BertQuestionAnswerer fills a row with, whatever the file says."""


def choose_runtime(wish: str, trained: Trained) -> str:
    """Find the runtime that files are made for.

    Args:
        wish: one of `RUNTIMES`, or `auto`: the first of them that the model can satisfy.
        trained: the model and its tokenizer.

    Returns:
        A name of `RUNTIMES`.

    Raises:
        ConfigError: an unknown name, or a runtime that cannot ask such a model.
    """
    if wish not in PHONE_RUNTIMES:
        raise ConfigError(
            f"export.runtime must be one of {', '.join(PHONE_RUNTIMES)}. Received: {wish!r}."
        )
    if tasks.find(trained.task).ANSWERS == "span":
        return _answerers_runtime(wish, trained)
    of_tokens = tasks.reads_tokens(trained.task) or tasks.fills_gaps(trained.task)
    if wish == "auto":
        asks_otherwise = trained.has_pairs or of_tokens or trained.tokenizer.template
        is_taken = trained.tokenizer.kind == "wordpiece" and not asks_otherwise
        wish = next(iter(RUNTIMES)) if is_taken else "litert"
    runtime = RUNTIMES[wish]
    if runtime.takes_text and of_tokens:
        raise ConfigError(
            f"export.runtime={wish}: expected a task that {runtime.shown} has. Received: "
            f"{trained.task}, which {_reads(trained.task)}. Set export.runtime=litert, fill ids, "
            "mask and segment_ids in the app, and decode there; the guide to tasks says how."
        )
    if runtime.takes_text and trained.has_pairs:
        raise ConfigError(
            f"export.runtime={wish}: expected a model of single texts, for {runtime.shown} "
            "tokenizes one text a row and has no place for a second. Received: a model of pairs. "
            "Set export.runtime=litert, and fill ids, mask and segment_ids in the app."
        )
    check_tokenizer(wish, trained.tokenizer)
    if runtime.takes_text and not trained.tokenizer.lowercase:
        _log.warning(
            "%s lower-cases ASCII letters always, and the vocabulary is cased: capitals are lost "
            "on the phone. Count the rows that differ with `tfmodel data CONFIG --skew`.",
            runtime.shown,
        )
    return wish


def _reads(task: str) -> str:
    return "fills gaps" if tasks.fills_gaps(task) else "answers each token"


def _answerers_runtime(wish: str, trained: Trained) -> str:
    """As `choose_runtime`, of a question answerer: the Task Library has one, of fixed lengths."""
    fits = trained.max_length == ANSWERER_LENGTH
    if wish == "auto":
        return "task-library-0.4" if fits else "litert"
    if wish == "mediapipe" or (wish != "litert" and not fits):
        raise ConfigError(
            f"export.runtime={wish}: expected litert, or task-library-0.4 of windows of "
            f"{ANSWERER_LENGTH} tokens, which alone its question answerer takes. Received: windows "
            f"of {trained.max_length}. Set train.max_length={ANSWERER_LENGTH}, or "
            "export.runtime=litert and find the span in the app as docs/tasks.md says."
        )
    return wish


def check_tokenizer(wish: str, tokenizer: RowTokenizer) -> None:
    """Refuse a runtime that cannot split texts as a tokenizer does.

    Args:
        wish: one of `RUNTIMES`, or `auto`.
        tokenizer: the model's.

    Raises:
        ConfigError: it splits in another way than WordPiece, which is all that phones have.
    """
    if wish in RUNTIMES and RUNTIMES[wish].takes_text and tokenizer.template:
        raise ConfigError(
            f"export.runtime={wish}: expected texts as they are, for {RUNTIMES[wish].shown} puts "
            f"them into no template. Received: the template {tokenizer.template!r}. Set "
            "export.runtime=litert, and fill ids, mask and segment_ids in the app."
        )
    if wish in RUNTIMES and RUNTIMES[wish].takes_text and tokenizer.kind != "wordpiece":
        raise ConfigError(
            f"export.runtime={wish}: expected a WordPiece tokenizer, the only one that "
            f"{RUNTIMES[wish].shown} has. Received: {tokenizer.kind}. Set export.runtime=litert, "
            "and fill ids and mask in the app."
        )


def check_operations(content: bytes, runtime: str) -> None:
    """Check that a runtime knows every operation of a file in the version that it has.

    Args:
        content: a `.tflite` file's content.
        runtime: a name of `RUNTIMES`.

    Raises:
        ConversionError: it does not; names the operations and where they are.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    known = RUNTIMES[runtime].operations
    if known is None:
        return
    names = {kind: name for name, kind in vars(schema.BuiltinOperator).items()}
    model = schema.ModelT.InitFromPackedBuf(content)
    unknown = {}
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            newest = known.get(names[code.builtinCode], 0)
            if code.version > newest:
                layer = subgraph.tensors[operator.outputs[0]].name.decode().split(";")[0]
                shown = f"{names[code.builtinCode]} version {code.version} in {layer}"
                unknown.setdefault(f"{names[code.builtinCode]} up to version {newest}", shown)
    if unknown:
        raise ConversionError(
            f"export.runtime={runtime}: expected {', '.join(unknown)}, which is all that "
            f"{RUNTIMES[runtime].shown} knows. Received: {', '.join(unknown.values())}. "
            "Set a newer runtime (export.runtime=litert takes all), or another export.tflite."
        )
