"""The command line: one command a stage, each a thin caller of the library."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import re
import shlex
import sys
from pathlib import Path

from tfmodel.config import ConfigError

_DONE, _FAILED, _MISTAKE, _INTERRUPTED = 0, 1, 2, 130
# Data and names of files may hold what moves the cursor, sets colours or the window's title.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: as typed; the process's own by default.

    Returns:
        0 done, 1 a failure of the work, 2 a mistake of the caller's, 130 interrupted.
    """
    options = _parse(arguments)
    _set_up_output(options.verbose)
    try:
        options.command(options)
        sys.stdout.flush()
    except ConfigError as error:
        return _say("mistake", error, _MISTAKE)
    except KeyboardInterrupt:
        same = "the same command"
        if getattr(options, "restart", False):
            same += " without --restart"
        return _say("interrupted", f"{same} continues", _INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away, as `head` does: nothing to complain about.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _DONE
    except Exception as error:
        if options.verbose:
            raise
        return _say("failed", _words(error), _FAILED)
    return _DONE


def _words(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror and not error.filename:
        text = error.strerror  # without "[Errno 28]"
    if isinstance(error, RuntimeError | OSError | FloatingPointError):
        return text
    # Not a failure that was foreseen: say where it is to be found.
    return f"{type(error).__name__}: {text}\nAdd --verbose for the full story."


def _say(kind: str, message: object, code: int) -> int:
    print(f"tfmodel: {kind}: {_printable(str(message))}", file=sys.stderr)
    return code


def _printable(text: str) -> str:
    """Write control characters as escapes: a terminal shows them and obeys none."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _printable(super().format(record))


def _set_up_output(verbose: bool) -> None:
    # Read by TensorFlow's C++ side when it is first imported, which is later.
    if not verbose:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable("%(message)s"))
    log = logging.getLogger("tfmodel")
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Answers are JSON, which is UTF-8 whatever the terminal's language; an argument that
        # was no UTF-8 comes back as JSON's own escape.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


# --- commands -----------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> None:
    from tfmodel import pipeline
    from tfmodel.kinds import load_run_config

    if options.runtime is not None:
        options.overrides.append(f"export.runtime={options.runtime}")
    # A mistake in the config should not take the seconds that TensorFlow needs to load.
    _, settings = load_run_config(options.config, options.overrides, stage=options.stage)
    _import_tensorflow(options)
    result = pipeline.run(
        options.config,
        options.overrides,
        restart=options.restart,
        only=options.stage,
        beam=None if options.beam is None else shlex.split(options.beam),
    )
    print(_printable(result.summary))
    if options.skew:
        from tfmodel.stages.skew import skew_of_run

        print("\n" + _printable(skew_of_run(settings, result.folder)))


def _predict(options: argparse.Namespace) -> None:
    from tfmodel.export import load
    from tfmodel.serve import answer_file, answer_lines

    if bool(options.input) != bool(options.output):
        raise ConfigError("Expected --input and --output together. Received: one of them.")
    if options.input and options.texts:
        raise ConfigError("Expected texts or --input FILE. Received: both.")
    fields = {"--text": options.text, "--text-pair": options.text_pair}
    given = [name for name, field in fields.items() if field is not None]
    if given and not options.input:
        raise ConfigError(
            f"Expected {given[0]} only with --input, whose field it names. Received: no --input. "
            "Leave it out, or name a file: --input FILE --output FILE."
        )
    _import_tensorflow(options)
    predictor = load(options.where)
    if options.input:
        count = answer_file(
            predictor,
            options.input,
            options.output,
            text="text" if options.text is None else options.text,
            text_pair="text_pair" if options.text_pair is None else options.text_pair,
        )
        print(f"{count:,} rows answered: {options.output}", file=sys.stderr)
        return
    if options.texts:
        answers = predictor.predict(options.texts)
    else:
        answers = answer_lines(predictor, _standard_input())
    for answer in answers:
        print(json.dumps(answer, ensure_ascii=False), flush=True)


def _serve(options: argparse.Namespace) -> None:
    from tfmodel.serve.command import run_command

    run_command(options)


def _rollout(options: argparse.Namespace) -> None:
    from tfmodel.serve.rollout.command import run_command

    _import_tensorflow(options)
    run_command(options, lambda line: print(_printable(line), flush=True))


def _kit(options: argparse.Namespace) -> None:
    from tfmodel.serve.kit import kit_settings, write_kit

    names = ("tf_serving", "cores", "latency_ms", "queue_ms", "seconds")
    settings = kit_settings(**{name: getattr(options, name) for name in names})
    _import_tensorflow(options)
    folder = write_kit(
        options.where,
        options.output,
        names=options.name,
        texts=options.texts,
        measured=options.measured,
        settings=settings,
    )
    print(_printable(f"{folder}: README.md there says what to do with it, and why it is so."))


def _feedback(options: argparse.Namespace) -> None:
    from tfmodel.serve.feedback.command import run_command

    print(_printable("\n".join(run_command(options))))


def _lint(options: argparse.Namespace) -> None:
    from tfmodel.export import lint

    report = lint(options.where, target=options.target)
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        print(_printable("\n".join(report.lines(every=options.all))))
    if not report.passed:
        raise RuntimeError(report.verdict)
    if not options.json:
        print(_printable(report.verdict))


def _standard_input():
    if sys.stdin is None:
        raise ConfigError("Expected texts, or lines on standard input. Received: neither.")
    if sys.stdin.isatty():
        print("Type a text and Enter; Ctrl-D ends.", file=sys.stderr)
    return sys.stdin.buffer


def _init(options: argparse.Namespace) -> None:
    from tfmodel.starter import write_starter

    for note in write_starter(options.file, options.output):
        print(note)


def _doctor(options: argparse.Namespace) -> None:
    from tfmodel.doctor import examine

    _import_tensorflow(options)
    for name, value in examine().items():
        print(f"{name:<22} {value}")


def _schema(options: argparse.Namespace) -> None:
    from tfmodel.kinds import schema_of_all

    print(json.dumps(schema_of_all(), indent=2))


def _import_tensorflow(options: argparse.Namespace) -> None:
    """Import TensorFlow without its greetings."""
    if options.verbose:
        return
    from tfmodel.export.quiet import quiet

    with quiet():
        import tensorflow  # noqa: F401


# --- arguments ----------------------------------------------------------------------------

_STAGES = {
    "data": "read, clean, deduplicate and split the labelled rows",
    "finetune": "fine-tune the encoder on the prepared rows",
    "evaluate": "measure the trained model on the dev and test parts",
    "export": "write SavedModel and TFLite files and check each against the model",
    "corpus": "read and clean text files, each document once, for a pretraining",
    "pretrain": "pretrain an encoder: corpus, vocabulary, tokens and training",
}
_PRETRAINING = ("corpus", "pretrain")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    words = sys.argv[1:] if arguments is None else arguments
    parser = _parser(words[0] if words else "")
    options, rest = parser.parse_known_args(arguments)
    # argparse takes no more texts or settings once an option has stood after the first ones.
    more = getattr(options, options.more) if options.more else []
    if rest and (not options.more or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    more += rest
    return options


def _parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands; for one of them it knows no arguments of those that take long."""
    parser = argparse.ArgumentParser(
        prog="tfmodel",
        description="From labelled text to a BERT that answers on a server and on a phone.",
        epilog="example:\n  tfmodel init train.csv && tfmodel run train.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from tfmodel import __version__

    parser.add_argument("--version", action="version", version=f"tfmodel {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    init = _command(
        commands,
        "init",
        _init,
        "look at a data file and write a commented config for it",
        "tfmodel init train.csv && tfmodel run train.yaml",
    )
    init.add_argument("file", metavar="FILE", help="labelled texts: CSV, TSV, JSONL or a folder")
    init.add_argument("--output", metavar="YAML", help="where to (default: FILE's name + .yaml)")

    run = _command(
        commands,
        "run",
        _run,
        "do every stage a config names; what is up to date is skipped",
        "tfmodel run configs/quickstart.yaml train.epochs=3",
    )
    _add_config(run, stage=None)
    for name, words in _STAGES.items():
        config = "pretrain_wiki_en" if name in _PRETRAINING else "quickstart"
        stage = _command(commands, name, _run, words, f"tfmodel {name} configs/{config}.yaml")
        _add_config(stage, stage=name)

    predict = _command(
        commands,
        "predict",
        _predict,
        "answer texts with a run, a SavedModel or a .tflite file",
        "tfmodel predict runs/quickstart 'Shares fell sharply on Monday.'\n"
        "  cat texts.txt | tfmodel predict runs/quickstart/export/savedmodel\n"
        "  tfmodel predict runs/quickstart --input pairs.jsonl --output answers.jsonl",
    )
    predict.add_argument("where", metavar="WHERE", help="run folder, SavedModel or .tflite file")
    predict.add_argument("texts", metavar="TEXT", nargs="*", help="texts; none: lines of stdin")
    predict.add_argument("--input", metavar="FILE", help="rows to answer: .jsonl, .csv or .tsv")
    predict.add_argument("--output", metavar="FILE", help="where to; other fields of FILE are kept")
    predict.add_argument("--text", metavar="NAME", help="field of --input with the text (text)")
    predict.add_argument("--text-pair", metavar="NAME", help="that of the second text (text_pair)")
    predict.set_defaults(more="texts")

    serve = _command(
        commands,
        "serve",
        _serve,
        "answer over REST and gRPC as TF Serving does, until Ctrl-C or SIGTERM",
        "tfmodel serve runs/quickstart/export/savedmodel\n"
        '  curl -d \'{"instances": ["Shares fell."]}\' localhost:8501/v1/models/model:predict',
    )
    if command in (None, "serve"):  # what it imports takes a second
        from tfmodel.serve.command import add_arguments as add_serve

        add_serve(serve)

    _add_feedback(
        _command(
            commands,
            "feedback",
            _feedback,
            "read what a server has recorded: rows to train on, figures; or delete some of it",
            "tfmodel feedback export sqlite:///feedback.db --output corrections.jsonl\n"
            "  tfmodel feedback stats sqlite:///feedback.db\n"
            "  tfmodel feedback delete sqlite:///feedback.db REQUEST_ID",
        )
    )
    rollout = _command(
        commands,
        "rollout",
        _rollout,
        "put a new version beside the one in service, compare, promote or roll back",
        "tfmodel rollout start models.config 2 --server grpc://localhost:8500\n"
        "  tfmodel rollout compare models.config --run runs/news\n"
        "  tfmodel rollout promote models.config",
    )
    if command in (None, "rollout"):
        from tfmodel.serve.rollout.command import add_arguments

        add_arguments(rollout)

    kit = _command(
        commands,
        "kit",
        _kit,
        "write a folder for production: TF Serving's configs, compose, Kubernetes, monitoring",
        "tfmodel kit runs/quickstart --output kit && cd kit && docker compose up --detach\n"
        "  tfmodel kit runs/news runs/reviews --output kit --texts questions.txt",
    )
    _add_kit(kit)

    lint = _command(
        commands,
        "lint",
        _lint,
        "say whether a TF Serving release can serve a SavedModel, anybody's",
        "tfmodel lint runs/quickstart/export/savedmodel --target 2.12",
    )
    lint.add_argument("where", metavar="SAVEDMODEL", help="version folder, or the one above")
    lint.add_argument("--target", metavar="2.x", default="2.12", help="the release (2.12)")
    lint.add_argument("--all", action="store_true", help="name every operation")
    lint.add_argument("--json", action="store_true", help="print the report as JSON")

    _command(
        commands,
        "doctor",
        _doctor,
        "say what this machine has and what will be used",
        "tfmodel doctor",
    )
    _command(
        commands,
        "schema",
        _schema,
        "print the config's JSON Schema, for editors",
        "tfmodel schema > tfmodel.schema.json",
    )
    return parser


def _command(commands, name: str, function, words: str, example: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=words,
        description=f"{words[0].upper()}{words[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--verbose", action="store_true", help="say everything, with tracebacks")
    parser.set_defaults(command=function, more=None)
    return parser


def _add_feedback(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    export = actions.add_parser("export", help="write rows that data.train reads")
    stats = actions.add_parser("stats", help="count rows, corrections and agreement by version")
    delete = actions.add_parser("delete", help="delete requests and corrections by their ids")
    for each in (export, stats, delete):
        each.add_argument("database", metavar="DATABASE", help="URL, as of tfmodel serve")
    delete.add_argument("ids", metavar="ID", nargs="+", help="of requests or corrections")
    export.add_argument("--output", metavar="FILE", required=True, help=".jsonl; .csv, .tsv")
    export.add_argument("--since", metavar="TIME", help="such as 2026-01-31 or 2026-01-31T12:00")
    export.add_argument("--model", metavar="NAME", help="whose (all of one task)")
    export.add_argument(
        "--only",
        choices=("corrected", "all"),
        default="corrected",
        help="all: with the model's own answer where nobody corrected it (corrected)",
    )
    for name in ("text", "text-pair", "label"):
        field = name.replace("-", "_")
        export.add_argument(f"--{name}", metavar="NAME", default=field, help=f"field ({field})")


def _add_kit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("where", metavar="RUN", nargs="+", help="run, or folder of SavedModels")
    parser.add_argument("--output", metavar="FOLDER", required=True, help="where to; new")
    parser.add_argument("--name", action="append", default=[], help="of a model (its run's)")
    parser.add_argument("--texts", metavar="FILE", help="rows to ask and warm up with (the labels)")
    parser.add_argument("--measured", metavar="FILE", help="measured.json, in place of measuring")
    parser.add_argument("--tf-serving", metavar="2.x.y", help="its image's tag (2.19.1)")
    parser.add_argument("--cores", type=int, help="of a server (this machine's)")
    parser.add_argument("--latency-ms", type=float, help="a batch may take so long (100)")
    parser.add_argument("--queue-ms", type=float, help="what waits longer is refused (1000)")
    parser.add_argument("--seconds", type=float, help="to measure a model for (20)")


def _add_config(parser: argparse.ArgumentParser, *, stage: str | None) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a YAML file")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that win over the file's"
    )
    parser.set_defaults(
        stage=stage, restart=False, skew=False, beam=None, runtime=None, more="overrides"
    )
    if stage == "data":
        parser.add_argument(
            "--skew",
            action="store_true",
            help="count the rows whose tokens differ on a phone or in KerasHub, with examples",
        )
    if stage in ("data", "corpus"):
        parser.add_argument(
            "--beam",
            metavar="FLAGS",
            help="prepare by Apache Beam with these flags: --beam=--runner=FlinkRunner",
        )
    if stage == "export":
        parser.add_argument(
            "--runtime",
            metavar="NAME",
            help="what TFLite files must run in: task-library-0.4, mediapipe or litert",
        )
    if stage in (None, "finetune", "pretrain"):
        parser.add_argument(
            "--restart", action="store_true", help="train from the start, replacing the weights"
        )


if __name__ == "__main__":
    sys.exit(main())
