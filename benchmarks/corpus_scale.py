"""Preparing a corpus at 1x to 10x: time, memory and disk, near duplicates and lines included.

`wiki_en` is repeated: in each copy a fourth of the words is replaced by other words of the corpus,
so that copies are neither equal nor near duplicates of each other, while headings stay what many
documents share. Each size is prepared in a process of its own; the memory is the sum of what the
process and its workers hold, sampled, as `Pss` where Linux tells it (shared pages count once).

    TFMODEL_DATA=../shared/data python benchmarks/corpus_scale.py --times 1 2 4 10
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from data_scale import folder_bytes, held_bytes

DATA = Path(os.environ.get("TFMODEL_DATA", Path(__file__).parents[2] / "shared" / "data"))
_REPLACED = 0.25


def write_copies(folder: Path, times: int, most_files: int) -> int:
    """Write the corpus so many times, the first as it is; give the bytes."""
    files = sorted((DATA / "wiki_en").iterdir())[:most_files]
    words = [word for word in files[0].read_text(encoding="utf-8").split() if "<" not in word]
    size = 0
    for copy in range(times):
        for file in files:
            text = file.read_text(encoding="utf-8")
            if copy:
                text = _varied(text, words, random.Random(f"{copy}/{file.name}"))
            path = folder / f"{copy:02d}" / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            size += path.stat().st_size
    return size


def _varied(text: str, words: list[str], generator: random.Random) -> str:
    lines = []
    for line in text.split("\n"):
        if line.startswith(("<doc id=", "</doc>")) or len(line) < 60:
            lines.append(line)
            continue
        lines.append(
            " ".join(
                words[int(generator.random() * len(words))]
                if generator.random() < _REPLACED
                else word
                for word in line.split(" ")
            )
        )
    return "\n".join(lines)


def measure(train: Path, folder: Path) -> dict:
    """Prepare in a process of its own and watch it."""
    command = [sys.executable, __file__, "--one", str(train), str(folder)]
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
        raise SystemExit(f"failed with exit code {process.returncode}")
    return {"seconds": seconds, **peak, **json.loads(output.splitlines()[-1])}


def prepare_one(train: str, folder: str) -> None:
    """Prepare, and print what came of it as JSON."""
    import resource

    from tfmodel.data.corpus import CorpusSettings, prepare_corpus

    corpus = prepare_corpus(CorpusSettings(train=train, privacy=True), Path(folder), seed=1)
    cpu = sum(
        getattr(resource.getrusage(who), name)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        for name in ("ru_utime", "ru_stime")
    )
    account = corpus.account
    print(
        json.dumps(
            {
                "cpu": cpu,
                "raw": account["raw"],
                "kept": account["kept"],
                "dropped": account["dropped"],
            }
        )
    )


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 4, 10])
    parser.add_argument("--files", type=int, default=32, help="of wiki_en, 1 MB each: what is 1x")
    parser.add_argument("--one", nargs=2, metavar=("TRAIN", "FOLDER"))
    options = parser.parse_args()
    if options.one:
        prepare_one(*options.one)
        return
    print(
        f"{'':>5}{'MB':>7}{'seconds':>9}{'MB/s':>7}{'CPU s':>8}{'MB/CPU s':>10}{'memory':>10}"
        f"{'disk':>10}  kept of raw, dropped"
    )
    for times in options.times:
        with tempfile.TemporaryDirectory() as name:
            train, work = Path(name, "in"), Path(name, "out")
            size = write_copies(train, times, options.files) / 1e6
            work.mkdir()
            found = measure(train, work / "corpus")
        print(
            f"{times:>4}x{size:>7,.0f}{found['seconds']:>9.1f}{size / found['seconds']:>7.2f}"
            f"{found['cpu']:>8.1f}{size / found['cpu']:>10.2f}"
            f"{found['memory'] / 1e6:>7,.0f} MB{found['disk'] / 1e6:>7,.0f} MB"
            f"  {found['kept']:,} of {found['raw']:,}, {found['dropped']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
