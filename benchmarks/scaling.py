"""Rows a second of one worker and of two, each with one core of this machine.

MiniLM in `TrainingModel` on SST-2, batches of --batch-size rows that the workers share (strong
scaling) and of --batch-size rows a worker (weak scaling), under MultiWorkerMirroredStrategy over
loopback. A worker is a process bound to a core of its own by its CPU affinity. One and two take
turns; the clock runs over the steps after the first --warm-up, tracing out. The ratio is that of
the rows a second; 2 would be perfect. Both workers share the machine's memory and caches, which a
second machine would not.

Run: TFMODEL_DATA=... python benchmarks/scaling.py --rounds 3

One JSON line a measurement is appended to --output; what is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from finetune_speed import LEARNING_RATE, MAX_LENGTH, minilm, read_sst2


def work(out: Path, *, core: int, batch_size: int, steps: int, warm_up: int) -> None:
    """Train, and write the seconds of each step after the warm-up."""
    os.sched_setaffinity(0, {core})  # before TensorFlow counts the cores
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    import tfmodel as tm
    from tfmodel.train.settings import fast_bfloat16

    strategy = tm.distribute.choose_strategy()
    keras.utils.set_random_seed(0)
    folder = minilm()
    texts, labels = read_sst2("train", batch_size * steps)
    tokenizer = tm.Tokenizer.from_folder(folder, max_length=MAX_LENGTH)
    batches = tm.batches(
        texts, labels, tokenizer=tokenizer, batch_size=batch_size, shuffle=True, seed=0
    )
    with strategy.scope():
        policy = "mixed_bfloat16" if fast_bfloat16() else "float32"
        encoder = tm.load_encoder(folder, sequence=False, dtype=policy)
        model = tm.tasks.classify.build(encoder, classes=2)
        training = tm.TrainingModel(model)
        training.compile(
            tm.adamw(LEARNING_RATE, total_steps=steps),
            loss=tm.tasks.classify.loss(),
            jit_compile=False,
        )
    times = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: times.append(time.perf_counter())
    )
    training.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[note])
    measured = times[-1] - times[warm_up - 1]
    rows = batch_size * (len(times) - warm_up)
    out.write_text(json.dumps({"rows_per_second": rows / measured, "precision": policy}))


def measure(workers: int, options: argparse.Namespace, batch_size: int) -> dict:
    """Start the workers; the figures of the first."""
    probes = [socket.socket() for _ in range(workers)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    for probe in probes:
        probe.close()
    with tempfile.TemporaryDirectory() as folder:
        running = []
        for rank in range(workers):
            cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
            command = [sys.executable, __file__, "--work", str(Path(folder, f"{rank}.json"))]
            command += ["--core", str(sorted(os.sched_getaffinity(0))[rank])]
            command += ["--batch-size", str(batch_size), "--steps", str(options.steps)]
            command += ["--warm-up", str(options.warm_up)]
            environment = {**os.environ, "TF_CONFIG": json.dumps(cluster) if workers > 1 else ""}
            running.append(subprocess.Popen(command, env=environment))
        if any(process.wait() for process in running):
            raise SystemExit("a worker failed")
        return json.loads(Path(folder, "0.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=6)
    parser.add_argument("--output", type=Path, default=Path("scaling.jsonl"))
    parser.add_argument("--work", type=Path, help="be a worker, and write the figures there")
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    if options.work is not None:
        work(
            options.work,
            core=options.core,
            batch_size=options.batch_size,
            steps=options.steps,
            warm_up=options.warm_up,
        )
        return
    cases = {
        "one worker": (1, options.batch_size),
        "two workers share the batch": (2, options.batch_size),
        "two workers, a batch each": (2, 2 * options.batch_size),
    }
    found = []
    if options.output.exists():
        found = [json.loads(line) for line in options.output.read_text().splitlines()]
    for round_number in range(options.rounds):
        for case, (workers, batch_size) in cases.items():
            if any((row["case"], row["round"]) == (case, round_number) for row in found):
                continue
            row = {
                "case": case,
                "round": round_number,
                "load_before": os.getloadavg()[0],
                **measure(workers, options, batch_size),
            }
            found.append(row)
            with open(options.output, "a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    speed = {
        (row["case"], row["round"]): row["rows_per_second"]
        for row in found
        if row["round"] < options.rounds
    }
    for case in cases:
        ratios = [
            speed[case, number] / speed["one worker", number] for number in range(options.rounds)
        ]
        median = statistics.median(speed[case, number] for number in range(options.rounds))
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{case:<28} {median:6.1f} rows/s, {statistics.median(ratios):.2f} times ({shown})")


if __name__ == "__main__":
    main()
