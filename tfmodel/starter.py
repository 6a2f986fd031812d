"""`tfmodel init FILE`: look at a data file and write a commented config that needs no editing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import yaml

from tfmodel.config import ConfigError, load_config
from tfmodel.export.places import make_folder
from tfmodel.kinds import RunSettings
from tfmodel.run_folder import write_aside

_SHOWN_LABELS = 5
_LONGER = {False: "", True: "; longer ones are read in windows"}
# Many classes have few rows each, and take more passes to be told apart.
_MANY_CLASSES, _EPOCHS, _EPOCHS_FOR_MANY = 20, 3, 5


def write_starter(file: str | Path, output: str | Path | None = None) -> list[str]:
    """Write a config for a file of labelled texts.

    Args:
        file: CSV, TSV, JSONL, a folder per class, lines of a label and a text, CoNLL columns, or
            SQuAD's JSON.
        output: the config's path; by default the file's name with `.yaml`, in this folder.

    Returns:
        Lines for the user: what was seen, where the config is, the command to type.

    Raises:
        ConfigError: the file cannot be read or understood, or the config is there already.
    """
    from tfmodel.data.reading.suggest import look_at

    file = Path(file)
    output = Path(output) if output else Path(f"{file.resolve().stem}.yaml")
    if output.exists():
        raise ConfigError(
            f"Expected a new file for the config. Received: {output}, which is there. "
            "Remove it, or name another with --output."
        )
    make_folder(output.parent)
    look = look_at(file)
    seen = [look.notes[0], f"{_labels(look)}.", *look.notes[1:]]
    command = shlex.join(["tfmodel", "run", str(output)])
    with write_aside(output) as aside:
        text = "\n".join(_lines(file, output, look, comments=[*seen, f"Run: {command}"]))
        aside.write_text(f"{text}\n", encoding="utf-8")
        load_config(aside, RunSettings)
    return [*seen, f"Written: {output}. Now type: {command}"]


def _lines(file: Path, output: Path, look, *, comments: list[str]) -> Iterator[str]:
    for comment in (f"Written by `tfmodel init {file}`.", *comments):
        yield f"# {' '.join(comment.split())}"  # names of columns may hold newlines
    yield ""
    yield f"run: {_scalar(f'runs/{output.stem}')}  # everything the run makes"
    yield "seed: 0"
    yield "# encoder: a Hugging Face BERT folder; without this key MiniLM (English) is used"
    yield ""
    yield "data:  # 20% are held out for test and 10% for dev, unless test: and dev: name files"
    has_questions = look.unanswerable is not None
    for key, value in look.settings.items():
        if key != "target" or not (look.spans or has_questions):  # the task says it
            yield f"  {key}: {_scalar(value)}"
    if look.numbers is None and not look.spans and not has_questions:
        yield "  # label_noise: {folds: 5}  # lists the rows whose label is probably wrong"
    yield ""
    if look.numbers is not None:
        yield "task:"
        yield "  name: regress  # the label is a number; classify: each number is a class"
        yield ""
    if look.spans:
        yield "task:"
        yield "  name: tag  # entities of the texts"
        yield ""
    if has_questions:
        yield "task:"
        yield "  name: span  # the answer to a question is a span of its context, or none"
        yield ""
    yield "train:"
    many = look.numbers is None and not look.spans and len(look.labels) > _MANY_CLASSES
    yield f"  epochs: {_EPOCHS_FOR_MANY if many else _EPOCHS}"
    if has_questions:
        yield "  max_length: 384  # tokens a window; a longer context is read in several"
    else:
        fit = f"tokens; 95% of the texts fit{_LONGER[look.spans]}"
        yield f"  max_length: {look.max_length}  # {fit}"
    if _is_skewed(look):
        yield "  # class_weights: balanced  # the rarest label counts as much as the commonest"
    yield ""
    yield "export:"
    yield "  savedmodel: true  # TF Serving"
    yield "  tflite: [float32, float16, int8]  # phones"


def _labels(look) -> str:
    if look.unanswerable is not None:
        none = (
            f"{look.unanswerable:,} questions have" if look.unanswerable else "every question has"
        )
        return f"Answers: spans of the contexts; {none} {'none' if look.unanswerable else 'one'}"
    if look.numbers is not None:
        return f"Labels: numbers, {look.numbers[1]:.3g} in the mean"
    found = list(look.labels.items())
    words = ", ".join(f"{label} {count:,}" for label, count in found[:_SHOWN_LABELS])
    return f"Labels: {words}" + (", ..." if len(found) > _SHOWN_LABELS else "")


def _is_skewed(look) -> bool:
    if look.numbers is not None or look.spans or not look.labels:
        return False
    counts = list(look.labels.values())
    return max(counts) > 5 * min(counts)


def _scalar(value) -> str:
    """A value in YAML's flow style, quoted where it must be."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")
