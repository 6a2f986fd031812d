"""Preparing data at 1x and 10x: time and memory, near duplicates included.

Real sentences (SST-2) are repeated with noise until there are enough: 10% exact copies, 20% near
copies (a word or a mark differs), the rest with so many words changed that they are other texts.
Each size is prepared in a process of its own; the memory is the sum of what the process and its
workers hold, sampled, as `Pss` where Linux tells it (shared pages count once).

    TFMODEL_DATA=../shared/data python benchmarks/data_scale.py --rows 200000 2000000

The peer (`pip install pandas`) is what is usually written for this: pandas, `drop_duplicates`, and
datasketch's `MinHashLSH` in memory, with the same threshold and runs of characters. It neither
cleans nor splits nor compares the texts themselves.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SIMILARITY = 0.8
DATA = Path(os.environ.get("TFMODEL_DATA", Path(__file__).parents[2] / "shared" / "data"))


def write_rows(path: Path, count: int) -> None:
    """Write a CSV of `count` rows."""
    lines = (DATA / "sst2/train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    real = [line.split("\t") for line in lines]
    real = [(text.strip(), label) for text, label in real if len(text) > 40]
    words = [word for text, _ in real for word in text.split()]
    generator = random.Random(0)
    written: list[tuple[str, str]] = []  # the latest rows, to be copied
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for _ in range(count):
            kind = generator.random()
            if written and kind < 0.1:
                row = generator.choice(written)
            elif written and kind < 0.3:
                text, label = generator.choice(written)
                row = (f"{text} {generator.choice('.!?')} {generator.choice(words)}", label)
            else:
                text, label = generator.choice(real)
                mixed = [generator.choice((word, generator.choice(words))) for word in text.split()]
                row = (" ".join(mixed), label)
            if len(written) < 50_000:
                written.append(row)
            else:
                written[generator.randrange(50_000)] = row
            writer.writerow(row)


def ours(path: Path, folder: Path) -> dict:
    """Prepare with tfmodel."""
    from tfmodel.data import DataSettings, prepare

    dataset = prepare(DataSettings(train=str(path), near_duplicates=SIMILARITY), folder, seed=1)
    return {"kept": dataset.account["kept"], "dropped": dataset.account["dropped"]}


def peer(path: Path, folder: Path) -> dict:
    """Prepare as it is usually written."""
    import zlib

    import pandas
    from datasketch import MinHash, MinHashLSH

    from tfmodel.data.similarity import shingles

    table = pandas.read_csv(path)
    raw = len(table)
    table = table.drop_duplicates("text")
    index = MinHashLSH(threshold=SIMILARITY, num_perm=128, weights=(0.1, 0.9))
    hashes = MinHash.generator(
        (list(shingles(text)) for text in table["text"]),
        num_perm=128, seed=1, hashfunc=zlib.crc32, scheme="affine32",
    )  # fmt: skip
    keep = []
    for number, each in enumerate(hashes):
        keep.append(not index.query(each))
        index.insert(number, each)
    kept = table[keep]
    folder.mkdir()
    kept.to_csv(folder / "kept.csv", index=False)
    near = len(table) - len(kept)
    return {"kept": len(kept), "dropped": {"duplicate": raw - len(table), "near_duplicate": near}}


def held_bytes(root: int) -> int:
    """Memory of a process and its children, bytes."""
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        try:
            children = Path(f"/proc/{process}/task/{process}/children").read_text()
            waiting += [int(child) for child in children.split()]
            smaps = Path(f"/proc/{process}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in smaps.splitlines() if "Pss:" in line)
        except (OSError, StopIteration, ValueError):
            continue
    return total * 1024


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_blocks * 512
            except OSError:
                continue
    return total


def measure(name: str, path: Path, folder: Path) -> dict:
    """Run one of the two in a process of its own and watch it."""
    command = [sys.executable, __file__, "--one", name, str(path), str(folder)]
    started = time.perf_counter()
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    peak = {"memory": 0, "disk": 0}

    def watch() -> None:
        while process.poll() is None:
            peak["memory"] = max(peak["memory"], held_bytes(process.pid))
            peak["disk"] = max(peak["disk"], folder_bytes(folder.parent))
            time.sleep(0.5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    seconds = time.perf_counter() - started
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{name} failed with exit code {process.returncode}")
    return {"seconds": seconds, **peak, **json.loads(output.splitlines()[-1])}


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000, 2_000_000])
    parser.add_argument("--peer-rows", type=int, default=200_000, help="the peer's largest size")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "FILE", "FOLDER"))
    options = parser.parse_args()
    if options.one:
        name, path, folder = options.one
        print(json.dumps({"ours": ours, "peer": peer}[name](Path(path), Path(folder))))
        return
    print(
        f"{'rows':>10} {'':<6}{'seconds':>9}{'rows/s':>9}{'memory':>10}{'disk':>10}  kept, dropped"
    )
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, "rows.csv")
            write_rows(path, rows)
            for who in ("ours", "peer") if rows <= options.peer_rows else ("ours",):
                work = Path(name, who)
                work.mkdir()
                found = measure(who, path, work / "out")
                print(
                    f"{rows:>10,} {who:<6}{found['seconds']:>9.1f}"
                    f"{rows / found['seconds']:>9,.0f}{found['memory'] / 1e6:>7,.0f} MB"
                    f"{found['disk'] / 1e6:>7,.0f} MB  {found['kept']:,}, {found['dropped']}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
