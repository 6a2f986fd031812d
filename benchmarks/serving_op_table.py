"""The table of `tfmodel lint`: since which TF Serving release each operation is there.

Run: python benchmarks/serving_op_table.py

Writes `tfmodel/export/linting/serving_ops.json`. For a new release add a line to `LINKED_TEXT` and
run it again: several GB are downloaded, one wheel at a time, and nothing of them is imported or
executed.

TF Serving's stock binary holds TensorFlow of its own minor version and a TF Text of the version
that its `workspace.bzl` names. TensorFlow's operations are read from the Python wrappers in its
wheel, those of TF Text from the names in its libraries that its Python calls. Not seen are
operations that Python has no wrapper for, but for `HIDDEN`, and whether a kernel comes with an
operation. "Since" means from there on in every release: TF Serving 2.7.3 had operations of TF Text
that 2.8 and 2.9 lacked.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

TABLE = Path(__file__).parents[1] / "tfmodel" / "export" / "linting" / "serving_ops.json"

# TF Serving release to the TF Text in its workspace.bzl; 2.21 as its main branch has it, for it is
# not out at the time of writing.
LINKED_TEXT = {
    "2.2": "2.2.0", "2.3": "2.3.0", "2.4": "2.4.3", "2.5": "2.5.0", "2.6": "2.6.0",
    "2.7": "2.6.0", "2.8": "2.6.0", "2.9": "2.6.0", "2.10": "2.7.3", "2.11": "2.8.2",
    "2.12": "2.12.1", "2.13": "2.12.1", "2.14": "2.12.1", "2.15": "2.12.1", "2.16": "2.12.1",
    "2.17": "2.12.1", "2.18": "2.12.1", "2.19": "2.12.1", "2.20": "2.20.0",
    "2.21": "2.20.0",
}  # fmt: skip

# Wrappers of operations that a model server does not link, or that call Python.
NOT_LINKED = re.compile(
    r"/(lite|dtensor|distribute|tf2tensorrt|mlir|distributed_runtime)/|gen_(script|user)_ops"
)
# Older than every release here, in TensorFlow's registry without a Python wrapper.
HIDDEN = [
    "KthOrderStatistic", "MakeUnique", "NegTrain", "QuantizedConcatV2", "Skipgram", "TopKUnique",
    "TopKWithUnique", "XlaLaunch",
]  # fmt: skip
# Wrappers of these went from Python, the operations did not (as TensorFlow 2.12's own list says).
STAYED = re.compile("TPU(?!.*GradAccumDebug)|Dedup")
# TensorFlow Decision Forests, linked since September 2022: its ops/inference/op.cc.
DECISION_FORESTS_SINCE = "2.11"
DECISION_FORESTS = [
    "SimpleMLCreateModelResource", "SimpleMLInferenceLeafIndexOpWithHandle", "SimpleMLInferenceOp",
    "SimpleMLInferenceOpWithHandle", "SimpleMLLoadModelFromPath",
    "SimpleMLLoadModelFromPathWithHandle",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=TABLE)
    output = parser.parse_args().output
    operations, text_operations = {}, {}
    for release, text in LINKED_TEXT.items():
        operations[release] = wheel_operations("tensorflow-cpu", f"{release}.*", tensorflow_names)
        if text not in text_operations:
            text_operations[text] = wheel_operations("tensorflow-text", text, text_names)
        print(
            f"{release}: {len(operations[release])} + {len(text_operations[text])} operations",
            flush=True,
        )
        operations[release] |= {*HIDDEN, *text_operations[text]}
        if number(release) >= number(DECISION_FORESTS_SINCE):
            operations[release] |= {*DECISION_FORESTS}
    output.write_text(json.dumps(table(operations), indent=1) + "\n", "utf-8")
    print(f"wrote {output}")


def table(operations: dict[str, set[str]]) -> dict:
    """Names by the release since which each is there, and by the last one where it is gone."""
    releases = list(operations)
    since: dict[str, list[str]] = {release: [] for release in releases}
    until: dict[str, list[str]] = {}
    for name in sorted(set().union(*operations.values())):
        has = [name in operations[release] for release in releases]
        last = len(has) - 1 - has[::-1].index(True)
        gaps = [index for index in range(last) if not has[index]]
        since[releases[gaps[-1] + 1 if gaps else 0]].append(name)
        if last < len(has) - 1 and not STAYED.search(name):
            until.setdefault(releases[last], []).append(name)
    return {"since": since, "until": until}


def number(release: str) -> tuple[int, ...]:
    """`2.12` as something that sorts."""
    return tuple(int(part) for part in release.split("."))


def wheel_operations(package: str, version: str, names) -> set[str]:
    """The operations in a wheel, which is read as an archive."""
    with tempfile.TemporaryDirectory() as folder:
        # No release has wheels for all Pythons.
        for python in ("3.8", "3.11"):
            command = [
                sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir",
                "--only-binary=:all:", "--implementation=cp", f"--python-version={python}",
                "-d", folder, f"{package}=={version}",
            ]  # fmt: skip
            for platform in ("2010_x86_64", "2014_x86_64", "_2_17_x86_64", "_2_27_x86_64"):
                command.append(f"--platform=manylinux{platform}")
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                break
        else:
            raise SystemExit(f"{package}=={version} cannot be had: {done.stderr[-500:]}")
        (path,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(path) as wheel:
            return names(wheel)


def tensorflow_names(wheel: zipfile.ZipFile) -> set[str]:
    """Names that the generated Python wrappers hand to TensorFlow."""
    found = set()
    for member in wheel.namelist():
        if re.search(r"/gen_\w*ops?\w*\.py$", member) and not NOT_LINKED.search(member):
            source = wheel.read(member).decode("utf-8")
            found |= {*re.findall(r'_apply_op_helper\(\s*"([^"]+)"', source)}
    return found


# Wrappers that TF Text's Python calls, or once called: its libraries keep what Python left.
CALLED: set[str] = set()


def text_names(wheel: zipfile.ZipFile) -> set[str]:
    """Names in the libraries whose Python form TF Text's own Python calls, or once called."""
    words = set()
    for member in wheel.namelist():
        content = wheel.read(member) if member.endswith((".py", ".so")) else b""
        if member.endswith(".py"):
            CALLED.update(re.findall(r"\bgen_\w+\.(\w+)", content.decode("utf-8")))
        elif b"OpDef" in content:
            words |= {*re.findall(rb"(?:TFText>)?[A-Z][A-Za-z0-9]{3,60}", content)}
    return {name for name in decoded(words) if python_form(name) in CALLED}


def decoded(words: Iterable[bytes]) -> set[str]:
    """Bytes as text."""
    return {word.decode("ascii") for word in words}


def python_form(name: str) -> str:
    """`TFText>RoundRobinTrim` to `tf_text_round_robin_trim`, as TensorFlow names its wrappers."""
    name = name.replace(">", "_")
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


if __name__ == "__main__":
    main()
