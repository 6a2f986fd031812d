"""The sections of a dataset's page: each function prepares one, or gives None to leave it out."""

from collections.abc import Mapping
from typing import Any

from tfmodel.report import wording
from tfmodel.report.data import balance, encoding, reason_in_words, step_in_words
from tfmodel.report.differences import marked
from tfmodel.report.label_words import label_in_words
from tfmodel.report.results import Figures
from tfmodel.report.tables import bar, column

_EXAMPLE_CHARACTERS = 200  # as account.json cuts them
_NOUNS = {"class": "Class", "classes": "Class", "tags": "Tag", "spans": "Kind of span"}
# How a file was read, in the order of the table; what is not named here follows.
_READ = {
    "path": "Path",
    "as": "Used as",
    "format": "Format",
    "encoding": "Encoding",
    "encodings": "Encodings, files",
    "delimiter": "Delimiter",
    "quoting": "Quotes hold fields together",
    "header": "First line is a header",
    "columns": "Columns",
    "taken": "Taken from",
    "files": "Files",
    "blank_lines": "Blank lines, no rows",
    "raw": "Raw rows",
    "kept": "Kept",
    "left_out": "Left out",
}
_NOT_SHOWN = {"name", "dropped", "encoding_guessed", "target"}
_FIELDS = ("text", "text_pair", "label", "group", "time")
_DELIMITERS = {",": "comma", ";": "semicolon", "|": "vertical bar"}
_WITH_COLUMNS = ("csv", "tsv", "jsonl", "json", "parquet", "regex", "tfds")


def reasons(account: Figures) -> dict[str, Any]:
    """Prepare the table of reasons: in plain words, with rows in total and by file."""
    files = [file for file in account.get("files", []) if file.get("dropped")]
    dropped = account["dropped"]
    several = files if len(files) > 1 else []
    most = max(dropped.values())
    return {
        "columns": [
            column("Reason"),
            column("Rows", bar=True),
            *(column(file["name"], numeric=True) for file in several),
            column("In dropped.jsonl"),
        ],
        "rows": [
            [
                reason_in_words(reason),
                bar(rows / most, wording.count(rows)),
                *(wording.count(file["dropped"].get(reason, 0)) for file in several),
                reason,
            ]
            for reason, rows in dropped.items()
        ],
    }


def files(account: Figures) -> dict[str, Any] | None:
    """Prepare how each file was read: a column a file."""
    read = [_read_as(file, account.get("settings") or {}) for file in account.get("files", [])]
    if not read:
        return None
    keys = [key for key in _READ if any(key in file for file in read)]
    more = dict.fromkeys(key for file in read for key in file)
    keys += [key for key in more if key not in _READ and key not in _NOT_SHOWN]
    guessed = [file["name"] for file in read if file.get("encoding_guessed")]
    lede = f"{wording.plural(len(read), 'source')} read"
    if guessed:
        lede += f"; the encoding of {wording.listed(guessed)} was guessed, so look at a few texts"
    return {
        "lede": f"{lede}.",
        "columns": [column("File"), *(column(file["name"]) for file in read)],
        "rows": [
            [_READ.get(key, _plain(key)), *(_value(file.get(key)) for file in read)] for key in keys
        ],
    }


def _read_as(file: Figures, settings: Figures) -> Figures:
    found = {**file, "left_out": sum(file.get("dropped", {}).values())}
    if file.get("encoding"):
        found["encoding"] = encoding(file)
    if file.get("delimiter"):
        found["delimiter"] = _DELIMITERS.get(file["delimiter"], file["delimiter"])
    if file.get("format") in _WITH_COLUMNS:
        taken = [f"{key}: {settings[key]}" for key in _FIELDS if settings.get(key)]
        if settings.get("target") == "none":
            taken = [each for each in taken if not each.startswith("label: ")]
        if taken:
            found["taken"] = taken
    return found


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return wording.count(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(each)}" for key, each in value.items())
    return str(value)


def cleaning(steps: Mapping[str, Figures]) -> dict[str, Any]:
    """Prepare what each step changed, before and after; name those that found nothing to do."""
    idle = [step_in_words(step) for step, found in steps.items() if not found.get("rows")]
    changed = [
        {
            "name": step_in_words(step),
            "rows": wording.plural(found["rows"], "row"),
            "examples": [
                {
                    **marked(pair["before"], pair["after"], cut_at=_EXAMPLE_CHARACTERS),
                    "origin": pair.get("origin", ""),
                }
                for pair in found.get("examples", [])
            ],
        }
        for step, found in steps.items()
        if found.get("rows")
    ]
    return {"steps": changed, "idle": f"Nothing to do for: {'; '.join(idle)}." if idle else ""}


def conflicts(found: Figures) -> dict[str, Any] | None:
    """Prepare the texts that stand in the data with different labels."""
    if not found.get("rows"):
        return None
    examples = [
        {
            "text": item["text"],
            "kept": _labelled(*item["kept"]),
            "dropped": _labelled(*item["dropped"]),
        }
        for item in found.get("examples", [])
    ]
    return {
        "lede": f"{wording.plural(found['rows'], 'row')} "
        f"{'has' if found['rows'] == 1 else 'have'} the text of an earlier row of the same part, "
        "but another label.",
        "examples": examples,
        "more": found["rows"] - len(examples),
    }


def _labelled(label: Any, origin: str) -> dict[str, str]:
    return {"label": label_in_words(label), "origin": origin}


def near_duplicates(account: Figures) -> dict[str, Any] | None:
    """Prepare the pairs of texts that are nearly equal, the two side by side."""
    found = account.get("near_duplicates")
    if not found:
        return None
    threshold, dropped = found.get("threshold"), account.get("dropped", {})
    left_out = sum(rows for reason, rows in dropped.items() if reason.startswith("near_"))
    lede = f"{wording.plural(left_out, 'row')} left out"
    if threshold is not None:
        lede += f" for sharing {wording.percent(threshold, digits=0)} or more of their runs of 5 "
        lede += "characters with another"
    examples = found.get("examples", [])
    return {
        "lede": f"{lede}. {wording.plural(found['pairs'], 'pair')} looked alike and were compared; "
        f"{wording.count(found['conflicts'])} of those as near have different labels.",
        "left_out": [_pair(*pair) for pair in found.get("same_label_examples", [])],
        "conflicts": [_pair(*pair) for pair in examples],
        "more": found["conflicts"] - len(examples),
    }


def _pair(one: Figures, other: Figures) -> list[dict[str, Any]]:
    pieces = marked(one["text"], other["text"], cut_at=_EXAMPLE_CHARACTERS)
    return [
        {"pieces": pieces[side], **_labelled(row["label"], row["origin"])}
        for side, row in (("before", one), ("after", other))
    ]


def labels(account: Figures) -> dict[str, Any] | None:
    """Prepare how the labels are spread over the parts, by what a label is."""
    splits, target = account.get("splits", {}), account.get("target", "class")
    table = balance(splits, _NOUNS.get(target, "Label"))
    numbers = {name: part["numbers"] for name, part in splits.items() if part.get("numbers")}
    if table is None and not numbers:
        return None
    return {
        "lede": _labels_lede(splits, target) if table else _numbers_lede(numbers),
        "table": table,
        "numbers": _numbers(numbers) if numbers else None,
        "note": _unlabelled(splits, target),
    }


def _labels_lede(splits: Mapping[str, Figures], target: str) -> str:
    train = splits["train"]["labels"]
    rows = {label: count for label, count in train.items() if target != "tags" or label != "O"}
    if not rows:
        return "Every word is outside of all entities."
    few, many = min(rows, key=rows.__getitem__), max(rows, key=rows.__getitem__)
    what = {"tags": "word", "spans": "span"}.get(target, "row")
    if few == many or rows[few] == rows[many]:
        return f"Each stands in {wording.plural(rows[many], f'{what}')} of train."
    lede = (
        f"From {wording.plural(rows[few], what)} of train ({wording.name(few)}) "
        f"to {wording.count(rows[many])} ({wording.name(many)})."
    )
    if target == "class":
        share = rows[many] / (splits["train"]["rows"] or 1)
        lede += (
            f" Always answering {wording.name(many)} would be right in {wording.percent(share)}."
        )
    return lede


def _numbers_lede(numbers: Mapping[str, Figures]) -> str:
    first = next(iter(numbers.values()))
    return f"From {first['least']:g} to {first['most']:g}, {first['mean']:.4g} on average."


def _numbers(numbers: Mapping[str, Figures]) -> list[dict[str, Any]]:
    """One table a part: its bins are its own."""
    tables = []
    for name, found in numbers.items():
        most = max(rows for _, _, rows in found["bins"])
        tables.append(
            {
                "columns": [column(name.capitalize()), column("Rows", bar=True)],
                "rows": [
                    [_range(least, up_to), bar(rows / most, wording.count(rows))]
                    for least, up_to, rows in found["bins"]
                ],
            }
        )
    return tables


def _range(least: float, up_to: float) -> str:
    return f"{least:g}" if least == up_to else f"{least:.4g} to {up_to:.4g}"


def _unlabelled(splits: Mapping[str, Figures], target: str) -> str:
    what = {"classes": "no class", "spans": "no span", "answers": "no answer"}.get(target)
    counts = [
        f"{wording.count(part['unlabelled'])} in {name}"
        for name, part in splits.items()
        if part.get("unlabelled")
    ]
    return f"Rows with {what}: {wording.listed(counts)}." if what and counts else ""


def lengths(splits: Mapping[str, Figures]) -> dict[str, Any] | None:
    """Prepare how long the texts are, in characters."""
    found = [
        (name, field, figures)
        for name, part in splits.items()
        for field, figures in part.get("characters", {}).items()
    ]
    if not found:
        return None
    pairs = any(field != "text" for _, field, _ in found)
    shares = list(found[0][2]["shares"])
    first = found[0][2]
    return {
        "lede": f"Half of the texts of {found[0][0]} have at most "
        f"{wording.plural(first['shares']['0.5'], 'character')}, 95% at most "
        f"{wording.count(first['shares']['0.95'])}; the longest has "
        f"{wording.count(first['longest'])}.",
        "columns": [
            column("Part"),
            column("Shortest", numeric=True),
            *(column(f"{100 * float(share):.0f}%", numeric=True) for share in shares),
            column("Longest", numeric=True),
        ],
        "rows": [
            [
                f"{name}, {field}" if pairs else name,
                wording.count(figures["shortest"]),
                *(wording.count(figures["shares"][share]) for share in shares),
                wording.count(figures["longest"]),
            ]
            for name, field, figures in found
        ],
    }


def _plain(name: str) -> str:
    return name.replace("_", " ").capitalize()
