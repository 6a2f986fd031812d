"""The data's path on the page: from raw rows to the three parts, and what was left by the way."""

from collections.abc import Mapping
from typing import Any

from tfmodel.data.parts.fates import NOT_DRAWN
from tfmodel.report import wording
from tfmodel.report.results import Figures
from tfmodel.report.tables import FOLDED_AFTER, bar, column

# The reasons and steps that account.json names; one that is new reads as it is written there.
_REASONS = {
    "duplicate": "Exact duplicate of an earlier row",
    "conflicting_label": "Same text as an earlier row, other label",
    "also_in_test": "Text also in the test part",
    "also_in_dev": "Text also in the dev part",
    "near_duplicate": "Nearly the text of an earlier row",
    "near_in_test": "Nearly a text of the test part",
    "near_in_dev": "Nearly a text of the dev part",
    "empty_text": "Empty text",
    "empty_label": "Empty label",
    "too_long": "Longer than data.max_characters",
    "too_short": "Shorter than data.cleaning.min_characters",
    "other_script": "In other scripts than data.cleaning.scripts",
    "other_language": "In another language than data.cleaning.languages",
    "malformed": "Could not be read",
    "wrong_field_count": "More or fewer fields than columns",
    "missing_field": "A field is missing",
    "not_text": "A field is not text",
    "bad_number": "Label is not a finite number, or too large",
    "bad_time": "Time is no number, date or time",
    "bad_tags": "Tags do not fit the words",
    "bad_span": "A span does not fit the text",
    "span_lost": "A span of which cleaning leaves nothing",
    "bad_answers": "Answers cannot be read",
    "answer_not_in_context": "The answer does not stand in the context",
    "answer_start_differs": "The answer stands elsewhere, in more than one place",
    "max_rows": "Beyond data.max_rows",
}
_STEPS = {
    "mojibake": "Wrong decoding undone (mojibake)",
    "control_characters": "Control and invisible characters removed",
    "html": "HTML tags removed",
    "html_entities": "HTML entities turned into characters",
    "unicode": "Characters composed (Unicode NFC)",
    "unicode_nfkc": "Variants of characters made plain (Unicode NFKC)",
    "whitespace": "Whitespace collapsed",
}


def data_section(account: Figures) -> dict[str, Any] | None:
    """Prepare what `account.json` tells."""
    if not account.get("raw"):
        return None
    left_out = sum(account.get("dropped", {}).values())
    return {
        "lede": raw_is_kept_and_left_out(account),
        "flow": flow(account),
        "dropped": reasons_table(account) if left_out else None,
        "note": " ".join(_sentences(account, left_out)),
        "changes": changes(account.get("cleaning", {})),
        "balance": balance(account.get("splits", {})),
    }


def raw_is_kept_and_left_out(account: Figures) -> str:
    """Say it as a sentence."""
    left_out = sum(account.get("dropped", {}).values())
    sentence = f"{wording.plural(account['raw'], 'raw row')}, {wording.count(account['kept'])} kept"
    return sentence + (
        f" and {wording.count(left_out)} left out." if left_out else ", none left out."
    )


def flow(account: Figures) -> list[dict[str, Any]]:
    """Three bars of one scale: what came in, what stayed, where it went."""
    files = account.get("files") or [{"name": "all", "raw": account["raw"]}]
    raw = [
        _part("raw", file["raw"], f"{wording.count(file['raw'])} in {file['name']}")
        for file in files
    ]
    dropped = dict(account.get("dropped", {}))
    samples = [(name, dropped.pop(name)) for name in NOT_DRAWN if name in dropped]
    left_out = sum(dropped.values())
    kept = [_part("kept", account["kept"], f"{wording.count(account['kept'])} kept")]
    away = []
    for name, unused in samples:
        away.append(_part("unused", unused, f"{wording.count(unused)} beyond {name}"))
    if left_out:
        away.append(_part("dropped", left_out, f"{wording.count(left_out)} left out"))
    flow = [{"name": "Raw rows", "parts": raw}, {"name": "Cleaned", "parts": kept + away}]
    if account.get("splits"):
        parts = [
            _part(name, split["rows"], f"{wording.count(split['rows'])} {name}")
            for name, split in account["splits"].items()
        ]
        # Room for what left above, so that equal widths stay equal rows.
        gone = account["raw"] - sum(split["rows"] for split in account["splits"].values())
        parts += [_part("gone", gone, "")] if gone > 0 else []
        flow.append({"name": "Split", "parts": parts})
    return flow


def _part(kind: str, rows: int, text: str) -> dict[str, Any]:
    return {"kind": kind, "rows": rows, "text": text}


def reason_in_words(reason: str) -> str:
    """`too_long` as `Longer than data.max_characters`."""
    return _REASONS.get(reason, _plain(reason))


def step_in_words(step: str) -> str:
    """`whitespace` as `Whitespace collapsed`."""
    return _STEPS.get(step, _plain(step))


def reasons_table(account: Figures) -> dict[str, Any]:
    """Prepare the table of reasons, in total and by file."""
    files = [file for file in account.get("files", []) if file.get("dropped")]
    columns = [column("Reason"), column("Rows", numeric=True)]
    if len(files) > 1:
        columns += [column(file["name"], numeric=True) for file in files]
    rows = []
    for reason, count in account["dropped"].items():
        row = [reason_in_words(reason), wording.count(count)]
        if len(files) > 1:
            row += [wording.count(file["dropped"].get(reason, 0)) for file in files]
        rows.append(row)
    return {"columns": columns, "rows": rows}


def _sentences(account: Figures, left_out: int) -> list[str]:
    sentences = []
    if left_out:
        sentences.append(
            "Every row left out stands with its reason in data/dropped.jsonl; data_report.html "
            "shows the first of each."
        )
    files: dict[str, list[str]] = {}
    for file in account.get("files", []):
        how = [file.get("format"), encoding(file)]
        how.append(f"delimiter {file['delimiter']}" if file.get("delimiter") else None)
        files.setdefault(", ".join(filter(None, how)), []).append(file["name"])
    sentences += [f"{wording.listed(names)} read as {how}." for how, names in files.items() if how]
    return sentences + list(account.get("notes", []))


def encoding(file: Figures) -> str | None:
    """Name a file's encoding, and say where it is a guess."""
    guessed = " (guessed)" if file.get("encoding_guessed") else ""
    return f"{file['encoding']}{guessed}" if file.get("encoding") else None


def changes(cleaning: Mapping[str, Figures]) -> list[dict[str, Any]]:
    """Prepare what each step of cleaning changed, before and after."""
    return [
        {
            "name": step_in_words(step),
            "rows": wording.plural(found["rows"], "row"),
            "examples": [
                {"before": visible(pair["before"]), "after": visible(pair["after"])}
                for pair in found.get("examples", [])
            ],
        }
        for step, found in cleaning.items()
        if found.get("rows")
    ]


def visible(text: str) -> str:
    """Show the characters that cleaning removes and a page would not show."""
    shown = []
    for letter in text:
        if letter in "\n\t\r":
            shown.append({"\n": "⏎", "\t": "⇥", "\r": "␍"}[letter])
        elif letter.isprintable() or letter == " ":
            shown.append(letter)
        else:
            shown.append(f"‹U+{ord(letter):04X}›")
    return "".join(shown)


def balance(splits: Mapping[str, Figures], name: str = "Class") -> dict[str, Any] | None:
    """Prepare the table of classes (tags, kinds of span), the most frequent first."""
    labels = splits.get("train", {}).get("labels", {})
    if not labels:
        return None
    parts = [name for name in splits if splits[name].get("labels")]
    # Most words are outside of all entities: on their scale no other tag would be seen.
    most = max((rows for label, rows in labels.items() if label != "O"), default=0) or 1
    ranked = sorted(labels, key=lambda label: -labels[label])
    first, *others = parts
    return {
        "columns": [
            column(name),
            column(first.capitalize(), bar=True),
            *(column(name.capitalize(), numeric=True) for name in others),
        ],
        "rows": [
            [
                label,
                bar(min(1, labels[label] / most), wording.count(labels[label])),
                *(wording.count(splits[name]["labels"].get(label, 0)) for name in others),
            ]
            for label in ranked
        ],
        "shown": len(ranked) if len(ranked) <= FOLDED_AFTER else 8,
    }


def _plain(name: str) -> str:
    return name.replace("_", " ").capitalize()
