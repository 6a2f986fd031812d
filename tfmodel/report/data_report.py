"""A prepared dataset -> one page that tells what became of every raw row."""

from pathlib import Path
from typing import Any

import yaml

from tfmodel.config import ConfigError
from tfmodel.data.account import ACCOUNT_FILE, DROPPED_FILE
from tfmodel.report import data_sections, left_out, wording
from tfmodel.report.data import flow
from tfmodel.report.html import write_html
from tfmodel.report.results import Figures
from tfmodel.run_folder import read_json

_TARGETS = {
    "class": "one class a text",
    "classes": "several classes a text",
    "number": "a number a text",
    "tags": "a tag for each word",
    "spans": "spans of the text",
    "answers": "answers in the second text",
    "text": "a text to be told apart from",
    "none": "no labels",
}


def write_data_report(dataset: str | Path, path: str | Path, *, title: str = "") -> Path:
    """Write the page of a prepared dataset: one HTML file, no network and no script.

    It tells what became of every raw row, how each file was read, what cleaning changed, which
    labels contradict each other and how classes and lengths are spread. Texts and labels are
    escaped, as they may come from anywhere. The same dataset gives the same bytes.

    Args:
        dataset: the folder that `prepare` or `tfmodel data` wrote.
        path: the page; it appears whole or not at all.
        title: what the page is called; default the dataset's folder.

    Returns:
        `path`.

    Raises:
        ConfigError: the folder holds no account of its rows.
    """
    folder = Path(dataset)
    try:
        account = read_json(folder / ACCOUNT_FILE)
        if not isinstance(account.get("raw"), int):
            raise ValueError("no count of raw rows")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{folder}: expected a dataset that tfmodel wrote, with {ACCOUNT_FILE}. Received: "
            f"{error}. Write it by `tfmodel data CONFIG`."
        ) from None
    found = left_out.read_left_out(folder / DROPPED_FILE)
    view = _view(account, found, folder, title or folder.resolve().name)
    return write_html(path, "data_report.html.jinja", view)


def _view(
    account: Figures, found: left_out.LeftOut | None, folder: Path, title: str
) -> dict[str, Any]:
    dropped = account.get("dropped", {})
    splits = account.get("splits", {})
    settings = account.get("settings")
    said = doubts(account, found)
    return {
        "title": title,
        "sum": _sum(account),
        "facts": _facts(account),
        "doubts": said,
        "lede": "" if said else "Every raw row is accounted for, file by file.",
        "paths": [
            {"name": "Rows", "value": str(folder)},
            {"name": "Left out", "value": str(folder / DROPPED_FILE)},
            {"name": "These figures", "value": str(folder / ACCOUNT_FILE)},
        ],
        "steps": flow(account),
        "notes": list(account.get("notes", [])),
        "left_out": data_sections.reasons(account) if dropped else None,
        "groups": left_out.groups(dropped, found, folder / DROPPED_FILE),
        "files": data_sections.files(account),
        "cleaning": data_sections.cleaning(account.get("cleaning", {})),
        "conflicts": data_sections.conflicts(account.get("conflicts") or {}),
        "near": data_sections.near_duplicates(account),
        "labels": data_sections.labels(account),
        "lengths": data_sections.lengths(splits),
        "settings": yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        if settings
        else "",
        "footer": f"Rows of {title} · seed {account.get('seed', 'not known')} · this page is one "
        "file and asks nothing of the network",
    }


def _sum(account: Figures) -> list[dict[str, str]]:
    raw, kept, gone = account["raw"], account["kept"], sum(account.get("dropped", {}).values())
    equals = "=" if raw == kept + gone else "≠"
    rows = [("", raw, "raw rows"), (equals, kept, "kept"), ("+", gone, "left out")]
    return [
        {"sign": sign, "value": wording.count(count), "name": name} for sign, count, name in rows
    ]


def doubts(account: Figures, found: left_out.LeftOut | None) -> list[str]:
    """Check the sums; say which do not hold, as in a dataset that somebody edited."""
    dropped = dict(account.get("dropped", {}))
    said = []
    for name, part in (("all files", account), *((f["name"], f) for f in account.get("files", []))):
        gone = sum(part.get("dropped", {}).values())
        if part["raw"] != part["kept"] + gone:
            said.append(
                f"{name}: {wording.count(part['raw'])} raw rows are not "
                f"{wording.count(part['kept'])} kept and {wording.count(gone)} left out."
            )
    split = sum(part["rows"] for part in account.get("splits", {}).values())
    if split != account["kept"]:
        said.append(
            f"The parts hold {wording.plural(split, 'row')}, not the "
            f"{wording.count(account['kept'])} that were kept."
        )
    if found is None and dropped:
        said.append(f"{DROPPED_FILE} is not there, so the rows left out cannot be shown.")
    elif found is not None and dict(found.counts) != dropped:
        said.append(
            f"{DROPPED_FILE} holds {wording.plural(found.counts.total(), 'row')}, not those that "
            f"{ACCOUNT_FILE} counts: one of them was changed."
        )
    return said


def _facts(account: Figures) -> list[dict[str, str]]:
    kept = account["kept"] or 1
    found = [
        {
            "name": name.capitalize(),
            "value": wording.count(part["rows"]),
            "note": f"{wording.percent(part['rows'] / kept)} of those kept",
        }
        for name, part in account.get("splits", {}).items()
    ]
    target = account.get("target", "class")
    names = account.get("labels", [])
    found.append(
        {
            "name": "Labels",
            "value": wording.count(len(names)) if names else "–",
            "note": _TARGETS.get(target, target),
        }
    )
    return found
