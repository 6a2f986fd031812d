"""A pretraining run's results -> one page, and the few lines it ends with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import markupsafe

from tfmodel.report import wording
from tfmodel.report.artifacts import artifacts
from tfmodel.report.data import changes, flow, reason_in_words, step_in_words
from tfmodel.report.html import write_html
from tfmodel.report.results import Figures
from tfmodel.report.sections import settings
from tfmodel.report.tables import bar, column
from tfmodel.report.terminal import last_lines

_ROWS_OF_COMMON_REASONS = 3
_REASONS = {
    "duplicate": "Exact copy of an earlier document",
    "near_duplicate": "Nearly an earlier document",
    "empty_text": "Empty",
    "too_short": "Fewer words or characters than corpus.cleaning asks for",
    "too_repetitive": "Repeats itself more than text does",
    "max_documents": "Beyond corpus.max_documents",
}
_STEPS = {
    "wiki_markup": "Left-over wiki markup removed",
    "lines": "Whitespace in and between lines removed",
    "navigation": "Menus and notices removed",
}
_PRIVATE = {
    "secret": "Secrets and keys",
    "email": "E-mail addresses",
    "iban": "IBANs",
    "identity": "National identity numbers",
    "card": "Bank cards",
    "ip": "IP addresses",
    "phone": "Phone numbers",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingResults:
    """What a pretraining run has found so far; whatever is empty is left out.

    Attributes:
        title: the run's name.
        run_folder: where everything lies.
        command: what made the run.
        next_command: what to type now.
        config: the resolved settings.
        environment: name -> version or machine.
        account: the corpus' `account.json`.
        vocabulary: `pieces`, `origin`, `bytes_per_token`, `unknown_rate` on dev.
        tokens: split -> tokens.
        history: `steps` and `dev`, one dict each.
        training: the `train` part of `metrics.json`.
        dev: its `dev` part, of the last weights.
        parity: `parity.json` of what was exported.
        timings: stage -> seconds.
    """

    title: str
    run_folder: str | Path = ""
    command: str = ""
    next_command: str = ""
    config: Figures = dataclasses.field(default_factory=dict)
    environment: Figures = dataclasses.field(default_factory=dict)
    account: Figures = dataclasses.field(default_factory=dict)
    vocabulary: Figures = dataclasses.field(default_factory=dict)
    tokens: Figures = dataclasses.field(default_factory=dict)
    history: Figures = dataclasses.field(default_factory=dict)
    training: Figures = dataclasses.field(default_factory=dict)
    dev: Figures = dataclasses.field(default_factory=dict)
    parity: Figures = dataclasses.field(default_factory=dict)
    timings: Mapping[str, float] = dataclasses.field(default_factory=dict)


def write_pretraining_report(path: str | Path, results: PretrainingResults) -> Path:
    """Write a pretraining run's page: one HTML file that needs no network and no script.

    The same results give the same bytes. What is not there yet is left out.

    Args:
        path: the file; it appears whole or not at all.
        results: what the run has found so far.

    Returns:
        `path`.
    """
    account = results.account
    view = {
        "title": results.title,
        "headline": _headline(results),
        "facts": _facts(results),
        "unfinished": ""
        if results.training
        else "This run is not finished: nothing has been trained yet.",
        "commands": _commands(results),
        "training": _training(results),
        "corpus": _corpus(account) if account.get("raw") else None,
        "vocabulary": _vocabulary(results) if results.vocabulary else None,
        "artifacts": artifacts(results.parity),
        "settings": settings(results),
        "footer": " · ".join(
            [
                f"Report of {results.title}",
                *([f"seed {results.config['seed']}"] if "seed" in results.config else []),
                "this page is one file and asks nothing of the network",
            ]
        ),
    }
    return write_html(path, "pretraining.html.jinja", view)


def pretraining_summary(results: PretrainingResults, *, report: str = "") -> str:
    """Say in plain text what was learned from how much text, and what to do next.

    Args:
        results: what the run has found so far; what is missing is left out.
        report: path of the page, if one was written.

    Returns:
        Lines of at most 80 columns, but for paths and commands, which are for copying and never
        cut; no newline at the end.
    """
    places = [
        ("files", results.run_folder),
        ("report", report),
        ("next", results.next_command),
    ]
    return last_lines(_lines(results), places, parity=results.parity)


def _lines(results: PretrainingResults) -> list[tuple[str, str, str]]:
    lines = []
    if results.dev:
        lines.append(("dev loss", f"{results.dev['loss']:.3f}", _fall(results)))
        if (perplexity := results.dev.get("perplexity")) is not None:
            lines.append(("perplexity", _perplexity(perplexity), _of_dev(results)))
    if training := results.training:
        rate = f"{wording.rate(training['tokens_per_second'])} real tokens a second"
        amount = f"{wording.count(training['tokens'])} tokens"
        if training.get("epochs"):
            amount += f", {training['epochs']:.2g} times the corpus"
        lines.append(("trained", wording.duration(training["seconds"]), f"{amount}: {rate}"))
    if account := results.account:
        lines.append(("documents", wording.count(account["kept"]), _reasons_in_short(account)))
    if vocabulary := results.vocabulary:
        lines.append(
            ("pieces", wording.count(vocabulary["pieces"]), _vocabulary_in_short(vocabulary))
        )
    if results.timings:
        stages = ", ".join(
            f"{stage} {wording.duration(seconds)}".replace(" ", "\xa0")
            for stage, seconds in results.timings.items()
        )
        lines.append(("time", wording.duration(sum(results.timings.values())), stages))
    return lines


def _fall(results: PretrainingResults) -> str:
    measured = [each for each in results.history.get("dev", []) if each.get("loss") is not None]
    if len(measured) < 2:
        return ""
    first = measured[0]
    return f"{first['loss']:.3f} at step {wording.count(first['step'])}"


def _of_dev(results: PretrainingResults) -> str:
    tokens = results.tokens.get("dev")
    return f"on dev, {wording.count(tokens)} tokens" if tokens else "on dev"


def _perplexity(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def _reasons_in_short(account: Figures) -> str:
    dropped = account.get("dropped", {})
    if not dropped:
        return f"all of {wording.count(account['raw'])}"
    ranked = sorted(dropped.items(), key=lambda each: -each[1])
    named = [f"{wording.count(n)} {reason}" for reason, n in ranked[:_ROWS_OF_COMMON_REASONS]]
    if rest := sum(n for _, n in ranked[_ROWS_OF_COMMON_REASONS:]):
        named.append(f"{wording.count(rest)} others")
    return f"of {wording.count(account['raw'])}: {wording.listed(named)} left out"


def _vocabulary_in_short(figures: Figures) -> str:
    unknown = wording.percent(figures["unknown_rate"], digits=3)
    fits = f"{figures['bytes_per_token']:.2f} bytes a token, {unknown} unknown on dev"
    return f"{figures['origin']}; {fits}"


# --- the page -----------------------------------------------------------------------------


def _headline(results: PretrainingResults) -> dict[str, Any] | None:
    perplexity = results.dev.get("perplexity")
    if perplexity is None:
        return None
    return {
        "value": _perplexity(perplexity),
        "meaning": "perplexity on held-out documents",
        "context": "At a hidden token the model is as unsure as among so many equally likely "
        "pieces. It compares with no other vocabulary's: longer pieces are harder.",
    }


def _facts(results: PretrainingResults) -> list[dict[str, str]]:
    found, training = [], results.training
    if results.dev:
        found.append(("Dev loss", f"{results.dev['loss']:.3f}", _fall(results)))
    if training:
        speed = wording.rate(training["tokens_per_second"])
        found.append(("Speed", speed, "real tokens a second"))
        note = f"{wording.count(training['steps'])} steps"
        found.append(("Training", wording.duration(training["seconds"]), note))
        seen = f"{training['epochs']:.2g} times the corpus" if training.get("epochs") else ""
        found.append(("Tokens seen", wording.count(training["tokens"]), seen))
        if training.get("parameters"):
            what = results.config.get("model")
            note = f"size {what}" if what else "trained on"
            found.append(("Weights", f"{training['parameters'] / 1e6:.1f} M", note))
    if results.vocabulary:
        pieces = wording.count(results.vocabulary["pieces"])
        found.append(("Pieces", pieces, results.vocabulary["origin"]))
    if results.timings:
        whole = wording.duration(sum(results.timings.values()))
        slowest = max(results.timings, key=lambda stage: results.timings[stage])
        note = f"{slowest} {wording.duration(results.timings[slowest])}"
        found.append(("Whole run", whole, note if len(results.timings) > 1 else ""))
    return [{"name": name, "value": value, "note": note} for name, value, note in found]


def _commands(results: PretrainingResults) -> list[dict[str, Any]]:
    lines = [("Next", results.next_command)]
    if results.training:
        lines.append(("Curves", f"tensorboard --logdir {Path(results.run_folder) / 'logs'}"))
    lines += [("Files", str(results.run_folder)), ("Made by", results.command)]
    return [
        {"name": name, "value": value, "next": name == "Next"} for name, value in lines if value
    ]


def _training(results: PretrainingResults) -> dict[str, Any] | None:
    records = [
        {key: step[key] for key in ("step", "loss", "learning_rate") if key in step}
        for step in results.history.get("steps", [])
    ]
    records += [
        {"step": each["step"]}
        | {f"dev_{key}": each[key] for key in ("loss", "perplexity") if key in each}
        for each in results.history.get("dev", [])
    ]
    if not records:
        return None
    from tfmodel.evaluate import plots  # matplotlib takes a moment: only where it is needed

    curves = plots.learning_curves(records)
    training = results.training
    lede = (
        f"{wording.count(training['tokens'])} real tokens in "
        f"{wording.duration(training['seconds'])}, "
        f"{wording.rate(training['tokens_per_second'])} a second; "
        f"{wording.percent(training['padding_share'])} of a batch is padding"
    )
    if left_out := training.get("left_out_share"):
        lede += f"; {wording.percent(left_out)} of the text fits no row and is left out"
    if training.get("resumed_at_steps"):
        steps = [wording.count(step) for step in training["resumed_at_steps"]]
        lede += f". Interrupted and taken up again at step {wording.listed(steps)}"
    return {
        "lede": f"{lede}.",
        "curves": {caption: markupsafe.Markup(drawing) for caption, drawing in curves.items()},
    }


def _corpus(account: Figures) -> dict[str, Any]:
    dropped = account.get("dropped", {})
    left_out = sum(dropped.values())
    raw = wording.plural(account["raw"], "document")
    lede = f"{raw} read, {wording.count(account['kept'])} kept"
    lede += f" and {wording.count(left_out)} left out." if left_out else ", none left out."
    steps = flow(account)
    steps[0]["name"] = "Documents read"
    most = max(dropped.values(), default=0)
    return {
        "lede": lede,
        "flow": steps,
        "dropped": {
            "columns": [
                column("Left out"),
                column("Documents", bar=True),
                column("In dropped.jsonl"),
            ],
            "rows": [
                [
                    _reason(reason),
                    bar(count / most, wording.count(count)),
                    reason,
                ]
                for reason, count in dropped.items()
            ],
        }
        if dropped
        else None,
        "changed": _changed(account),
        "examples": changes(account.get("cleaning", {})),
        "note": "Each of them stands in corpus/dropped.jsonl." if left_out else "",
        "notes": list(account.get("notes", [])),
    }


def _reason(name: str) -> str:
    found = _REASONS.get(name) or reason_in_words(name)
    return found.replace("data.", "corpus.").replace(" row", " document")


def _changed(account: Figures) -> dict[str, Any] | None:
    """What was taken out of documents that stayed."""
    rows = [
        [_STEPS.get(step) or step_in_words(step), wording.plural(found["rows"], "document")]
        for step, found in account.get("cleaning", {}).items()
        if found.get("rows")
    ]
    lines = account.get("lines", {})
    for kind, words in (
        ("shared", "Lines that many documents have"),
        ("repeated", "Long lines that an earlier document has"),
    ):
        if lines.get(kind, {}).get("lines"):
            rows.append([words, wording.plural(lines[kind]["lines"], "line")])
    for kind, count in account.get("private", {}).items():
        if count:
            rows.append([f"{_PRIVATE.get(kind, kind)} replaced", wording.plural(count, "place")])
    if not rows:
        return None
    return {"columns": [column("Changed"), column("In", numeric=True)], "rows": rows}


def _vocabulary(results: PretrainingResults) -> dict[str, Any]:
    figures = results.vocabulary
    rows = [
        ["Pieces", wording.count(figures["pieces"])],
        ["Bytes of a token, on dev", f"{figures['bytes_per_token']:.2f}"],
        ["Tokens unknown, on dev", wording.percent(figures["unknown_rate"], digits=3)],
        ["Lower-cased", "yes" if figures["lowercase"] else "no"],
    ]
    rows += [
        [f"Tokens of {split}", wording.count(results.tokens[split])]
        for split in ("train", "dev")
        if split in results.tokens
    ]
    if words := results.tokens.get("words"):
        rows.append(["A word is", {"pieces": "pieces up to the next without ##"}.get(words, words)])
    return {
        "lede": {
            "trained": "Trained from this corpus.",
            "given": "Given by the config.",
            "the encoder's": "The encoder’s own.",
        }.get(figures["origin"], ""),
        "columns": [column("Figure"), column("", numeric=True)],
        "rows": rows,
    }
