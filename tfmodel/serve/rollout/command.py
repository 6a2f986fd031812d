"""`tfmodel rollout`: its arguments, and what each of its commands does."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.serve.protocol_names import STABLE

_log = logging.getLogger(__name__)
_MOST_ROWS = 1000
_LATENCY_ROWS = 200
_LONGEST_SECONDS = 86_400
Print = Callable[[str], None]

_WORDS = {
    "start": "check a version, load it beside the one in service and label it canary",
    "compare": "ask both versions the same: agreement, the task's figures, latency",
    "promote": "move the label stable to the new version",
    "rollback": "move both labels to the old version and unload the new one",
    "finish": "unload the old version, once the new one is promoted",
    "status": "say what was reached, and what the server serves",
    "run": "start, compare, then promote or roll back by the rule",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands below `tfmodel rollout`."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, words in _WORDS.items():
        sub = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
        sub.set_defaults(rollout=name, more=None)
        sub.add_argument("--verbose", action="store_true", help="say everything, with tracebacks")
        sub.add_argument("config", metavar="MODELS_CONFIG", help="the file that the server follows")
        if name in ("start", "run"):
            sub.add_argument("version", metavar="VERSION", type=int, help="number of its folder")
            sub.add_argument(
                "--stable", metavar="NUMBER", type=int, help="version in service, if not labelled"
            )
            sub.add_argument("--target", metavar="2.x", default="2.12", help="TF Serving (2.12)")
        _add_server(sub)
        if name in ("compare", "run"):
            _add_comparison(sub, has_copies=name == "compare")
        if name == "promote":
            sub.add_argument(
                "--anyway", action="store_true", help="though no comparison was passed"
            )
        if name == "status":
            sub.add_argument("--json", action="store_true", help="print it as JSON")


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", help="of several in the file")
    parser.add_argument(
        "--server",
        metavar="ADDRESS",
        help="http://HOST:8501 or grpc://HOST:8500 (that of the last rollout, else "
        "http://localhost:8501); https and grpcs for TLS",
    )
    parser.add_argument(
        "--base", metavar="FOLDER", help="of the versions, where the file calls it otherwise"
    )
    parser.add_argument("--token-file", metavar="FILE", help="a token that the server demands")
    parser.add_argument("--certificate", metavar="FILE", help="of who vouches for the server, PEM")
    parser.add_argument(
        "--wait-seconds", type=float, default=300.0, help="for the server to do a step (300)"
    )


def _add_comparison(parser: argparse.ArgumentParser, *, has_copies: bool) -> None:
    parser.set_defaults(mirrored=None)
    rows = parser.add_argument_group("rows").add_mutually_exclusive_group(required=True)
    rows.add_argument("--texts", metavar="FILE", help="requests: .txt, .jsonl, .csv or .tsv")
    rows.add_argument("--labelled", metavar="FILE", help="labelled rows of any format of data.test")
    rows.add_argument("--run", metavar="FOLDER", help="a run, whose --part is asked")
    rows.add_argument(
        "--feedback", metavar="DATABASE", help="what the old version was asked, as a server records"
    )
    if has_copies:
        rows.add_argument(
            "--mirrored",
            metavar="DATABASE",
            help="copies that a server has asked both versions",
        )
    parser.add_argument(
        "--since", metavar="TIME", help="of --feedback and --mirrored: 2026-01-31, …T12:00"
    )
    parser.add_argument("--part", default="test", help="of --run (test)")
    for name in ("text", "text-pair", "label"):
        parser.add_argument(f"--{name}", metavar="NAME", help=f"field of the file with the {name}")
    parser.add_argument("--most", type=int, default=_MOST_ROWS, help="rows (1000)")
    parser.add_argument(
        "--latency-rows", type=int, default=_LATENCY_ROWS, help="single requests timed (200)"
    )
    rule = parser.add_argument_group("rule")
    rule.add_argument("--max-drop", type=float, default=0.01, help="of the task's figure (0.01)")
    rule.add_argument("--min-agreement", type=float, help="share of rows (0.9; with labels: none)")
    rule.add_argument("--max-latency-ratio", type=float, default=1.5, help="new by old (1.5)")
    rule.add_argument("--min-rows", type=int, default=50, help="that must be compared (50)")
    rule.add_argument(
        "--strict", action="store_true", help="hold the worse end of each interval to it"
    )
    parser.add_argument(
        "--report", metavar="HTML", help="where to (MODELS_CONFIG.rollout/MODEL.html)"
    )


def run_command(options: argparse.Namespace, out: Print) -> None:
    """Do one of the commands.

    Args:
        options: as parsed.
        out: shows a line.

    Raises:
        ConfigError: a mistake of the caller's.
        RuntimeError: the server does not do it, a version is refused, or a comparison not passed.
    """
    from tfmodel.serve.errors import ServingError

    try:
        _COMMANDS[options.rollout](options, out)
    except ServingError as error:
        raise RuntimeError(f"The server says {error.code}: {error.message}") from None


def _rollout(options: argparse.Namespace) -> Any:
    from tfmodel.serve.doors import read_token
    from tfmodel.serve.rollout.control import Rollout, write_first_config

    if not 0 < options.wait_seconds <= _LONGEST_SECONDS:  # and so not a number, either
        raise ConfigError(
            f"--wait-seconds must be above 0 and at most {_LONGEST_SECONDS:,}, a day. "
            f"Received: {options.wait_seconds:g}."
        )
    path = Path(options.config)
    if not path.exists() and options.rollout in ("start", "run") and options.base:
        if not options.stable:
            raise ConfigError(
                f"{path}: expected a file of models, or --stable NUMBER beside --base to write "
                "one. Received: neither."
            )
        base = Path(options.base).resolve()
        if not (base / str(options.stable)).is_dir():
            raise ConfigError(
                f"{base}: expected the version {options.stable} of --stable. Received: none."
            )
        write_first_config(path, options.model or "model", base, options.stable)
        _log.info("written: %s", path)
    return Rollout(
        path,
        model=options.model,
        server=options.server,
        base=options.base,
        token=read_token(options.token_file),
        certificate=options.certificate,
        wait_seconds=options.wait_seconds,
        target=getattr(options, "target", "2.12"),
    )


def _start(options: argparse.Namespace, out: Print) -> None:
    state = _rollout(options).start(options.version, stable=options.stable)
    out(f"{state.model}: version {state.new} answers beside {state.old}, with the label canary")
    if state.new > state.old:
        out(
            "Requests that name neither a version nor a label go to the highest version, so to "
            f"{state.new}: let clients ask for labels/stable."
        )
    out(f"next: tfmodel rollout compare {options.config} …, promote, or rollback")


def _compare(options: argparse.Namespace, out: Print) -> None:
    if not _compared(_rollout(options), options, out):
        raise RuntimeError("The new version has not passed. The old one is in service.")


def _compared(rollout: Any, options: argparse.Namespace, out: Print) -> bool:
    from tfmodel.serve.rollout.compare import compare
    from tfmodel.serve.rollout.page import comparison_lines, write_page
    from tfmodel.serve.rollout.recorded import compare_mirrored
    from tfmodel.serve.rollout.state import folder_of

    rule = _rule(options)
    if options.mirrored:
        comparison = compare_mirrored(rollout, options.mirrored, since=options.since, rule=rule)
    else:
        rows = _rows(options, rollout, rollout.on_trial().old)
        comparison = compare(rollout, rows, rule=rule, latency_rows=options.latency_rows)
    for line in comparison_lines(comparison.figures):
        out(line)
    path = options.report or folder_of(rollout.config) / f"{rollout.model}.html"
    out(f"report: {write_page(path, comparison)}")
    return comparison.passed


def _rule(options: argparse.Namespace) -> Any:
    from tfmodel.serve.rollout.compare import Rule

    for name in ("most", "latency_rows"):
        if getattr(options, name) < 1:
            option = "--" + name.replace("_", "-")
            raise ConfigError(f"{option} must be 1 or more. Received: {getattr(options, name)}.")
    return Rule(
        max_drop=options.max_drop,
        min_agreement=options.min_agreement,
        max_latency_ratio=options.max_latency_ratio,
        min_rows=options.min_rows,
        strict=options.strict,
    )


def _rows(options: argparse.Namespace, rollout: Any, number: int) -> Any:
    """What is compared.

    Args:
        options: as parsed.
        rollout: of the model.
        number: of the version whose rows they are.
    """
    from tfmodel.serve.rollout.recorded import feedback_rows
    from tfmodel.serve.rollout.rows import labelled_rows, run_rows, text_rows
    from tfmodel.serve.rollout.served import manifest_of

    manifest = manifest_of(rollout.version_folder(number))
    if options.since and not (options.feedback or options.mirrored):
        raise ConfigError(
            "--since: expected beside --feedback or --mirrored. Received: neither of them."
        )
    if options.feedback:
        asked = {"model": rollout.model, "version": number, "since": options.since}
        return feedback_rows(options.feedback, manifest, **asked, most=options.most)
    fields = {"text": options.text, "text_pair": options.text_pair}
    if options.run:
        return run_rows(options.run, manifest, part=options.part, most=options.most)
    if options.labelled:
        fields["label"] = options.label
        return labelled_rows(options.labelled, manifest, fields=fields, most=options.most)
    given = {name: value for name, value in fields.items() if value is not None}
    return text_rows(options.texts, manifest, most=options.most, **given)


def _promote(options: argparse.Namespace, out: Print) -> None:
    state = _rollout(options).promote(anyway=options.anyway)
    out(f"{state.model}: version {state.new} is in service; {state.old} stays loaded")
    out(f"next: tfmodel rollout finish {options.config} unloads it, rollback brings it back")


def _rollback(options: argparse.Namespace, out: Print) -> None:
    state = _rollout(options).rollback()
    out(f"{state.model}: version {state.old} is in service, {state.new} is not served")


def _finish(options: argparse.Namespace, out: Print) -> None:
    state = _rollout(options).finish()
    out(f"{state.model}: version {state.new} is in service, {state.old} is not served")


def _status(options: argparse.Namespace, out: Print) -> None:
    import dataclasses

    from tfmodel.serve.errors import ServingError
    from tfmodel.serve.protocol_names import CANARY
    from tfmodel.serve.rollout.page import comparison_lines

    rollout = _rollout(options)
    state = rollout.state
    served: dict[str, Any] = {}
    with rollout.live() as live:
        labels = dict(live.entry().version_labels)
        try:
            served["versions"] = {
                number: " ".join(filter(None, (each.state, each.message)))
                for number, each in live.versions().items()
            }
            names = [*dict.fromkeys((STABLE, CANARY, *labels))]
            served["labels"] = {name: live.label(name) for name in names}
        except ServingError as error:
            served = {"error": f"{error.code}: {error.message}"}
    if options.json:
        noted = None if state is None else dataclasses.asdict(state)
        out(json.dumps({"rollout": noted, "file": labels, "server": served}, indent=2))
        return
    if state is None:
        out(f"{rollout.model}: no rollout yet")
    else:
        out(f"{rollout.model}: version {state.new} after {state.old}: {state.stage}")
        if state.reason:
            out(f"  {state.reason}")
        if state.comparison is not None:
            for line in comparison_lines(state.comparison):
                out(line)
    for name, number in labels.items():
        on = served.get("labels", {}).get(name)
        agrees = "" if on == number else f", on the server {'unknown' if on is None else on}"
        out(f"label {name}: version {number}{agrees}")
    for number, words in sorted(served.get("versions", {}).items()):
        out(f"version {number}: {words}")
    if "error" in served:
        out(f"the server does not answer: {served['error']}")


def _run(options: argparse.Namespace, out: Print) -> None:
    rollout = _rollout(options)
    _rule(options)  # a mistake in it is told before anything moves
    rollout.version_folder(options.version)
    _rows(options, rollout, _stable(rollout, options) or options.version)
    state = rollout.state
    stage = state.stage if state is not None and state.new == options.version else None
    if stage in _IN_SERVICE:
        out(f"{rollout.model}: version {options.version} is {stage} already")
        return
    if stage == "rolling back":
        _rollback(options, out)
        raise RuntimeError("The new version was being rolled back, and that is done.")
    if stage != "promoting":
        rollout.start(options.version, stable=options.stable)
        if not _compared(rollout, options, out):
            _rollback(options, out)
            raise RuntimeError("The new version has not passed, and was rolled back.")
    _promote(argparse.Namespace(**{**vars(options), "anyway": False}), out)


def _stable(rollout: Any, options: argparse.Namespace) -> int | None:
    """The version in service, as far as the file or the caller says."""
    with rollout.live() as live:
        return live.entry().version_labels.get(STABLE) or options.stable


_IN_SERVICE = ("promoted", "finishing", "finished")
_COMMANDS: dict[str, Callable[[argparse.Namespace, Print], None]] = {
    "start": _start,
    "compare": _compare,
    "promote": _promote,
    "rollback": _rollback,
    "finish": _finish,
    "status": _status,
    "run": _run,
}
