"""Results of an invented run, whole or in part."""

import numpy as np
import pytest

from tfmodel.evaluate import classification
from tfmodel.report import Results

TEXTS = ("Shares fell sharply on Monday. " * 30, "A late goal won the cup.", "短い", "")


def _evaluation(labels, *, rows=120, seed=0):
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, len(labels), rows)
    logits = generator.normal(size=(rows, len(labels)))
    logits[np.arange(rows), targets] += 3
    odds = np.exp(logits)
    return classification(
        targets,
        odds / odds.sum(axis=1, keepdims=True),
        labels,
        texts=[TEXTS[row % len(TEXTS)] for row in range(rows)],
        origins=[f"test.csv:{row + 2}" for row in range(rows)],
    )


def _artifact(path, precision, size_bytes, **figures):
    asked = {
        "rows": 120,
        "largest_score_difference": 1.19e-7,
        "label_agreement": 1.0,
        "accuracy": 0.95,
        "accuracy_interval": [0.9, 0.98],
        "load_seconds": 0.4,
        "latency_ms": {"p50": 18.33, "p99": 24.1, "rows": 120},
        "threads": 1,
        "peak_memory_mb": 131.2,
        "runtime_memory_mb": 36.8,
        "passed": True,
        "failures": [],
    }
    is_tflite = path.endswith(".tflite")
    runtime = "litert" if is_tflite else "tensorflow"
    skew = {
        "rows": 3,
        "share": 0.06,
        "example": {"text": "Un café", "ours": ["cafe"], "theirs": ["caf", "##é"]},
    }
    phones = {
        "mediapipe": asked | {"rows": 50, "skew": skew, "peak_memory_mb": 217.0},
        "task-library-0.4": {"not_run": "no Python with it"},
    }
    return {
        "path": path,
        "kind": "tflite" if is_tflite else "savedmodel",
        "precision": precision,
        "output": "scores",
        **asked,
        "bytes": size_bytes,
        "runtime": runtime,
        "runtimes": {runtime: asked} | (phones if is_tflite else {}),
        **figures,
    }


def _account(labels):
    counts = {label: 100 + index for index, label in enumerate(labels)}
    train, test = sum(counts.values()), 10 * len(labels)
    return {
        "raw": train + test + 20,
        "kept": train + test,
        "dropped": {"duplicate": 13, "also_in_test": 4, "max_rows": 2, "new_reason": 1},
        "files": [
            {
                "name": "train.csv",
                "format": "csv",
                "encoding": "utf-8",
                "delimiter": "comma",
                "raw": train + 18,
                "kept": train,
                "dropped": {"duplicate": 11, "also_in_test": 4, "max_rows": 2, "new_reason": 1},
            },
            {
                "name": "test.csv",
                "format": "csv",
                "encoding": "utf-8",
                "delimiter": "comma",
                "raw": test + 2,
                "kept": test,
                "dropped": {"duplicate": 2},
            },
        ],
        "splits": {
            "train": {"rows": train, "labels": counts},
            "test": {"rows": test, "labels": {label: 10 for label in labels}},
        },
        "cleaning": {
            "whitespace": {
                "rows": 7,
                "examples": [{"origin": "train.csv:2", "before": "a\n\u200bb", "after": "a b"}],
            },
            "unicode": {"rows": 0, "examples": []},
        },
        "notes": ["1 of 3 classes has a single row, which stays in train: rare."],
    }


@pytest.fixture
def make_results():
    """Build the results of a finished run; keywords replace single fields."""

    def build(*, labels=("business", "sport", "card_not_working"), **changes):
        labels = list(labels)
        fields = {
            "title": "News",
            "run_folder": "runs/news",
            "command": "tfmodel run news.yaml",
            "next_command": 'tfmodel predict runs/news "Shares fell."',
            "config": {"run": "runs/news", "seed": 7, "train": {"epochs": 2}},
            "environment": {"python": "3.11.2", "keras": "3.15.1", "cpu_flags": ["avx2", "amx"]},
            "account": _account(labels),
            "history": [
                {"step": 1, "loss": 1.0, "learning_rate": 1e-4},
                {"step": 2, "loss": 0.5, "learning_rate": 5e-5},
                {"step": 2, "epoch": 0, "dev_accuracy": 0.9},
            ],
            "training": {
                "examples": 6128,
                "seconds": 112.4,
                "examples_per_second": 54.5,
                "tokens_per_second": 6951.2,
                "resumed_at_steps": [60],
            },
            "evaluation": {"dev": _evaluation(labels, seed=1), "test": _evaluation(labels)},
            "parity": {
                "rows": 120,
                "passed": True,
                "reference": {"accuracy": 0.95, "latency_ms": {"p50": 31.0, "p99": 44.0}},
                "artifacts": {
                    "savedmodel": _artifact("savedmodel/1", "float32", 91_723_114),
                    "int8": _artifact("tflite/int8.tflite", "int8", 23_211_987),
                },
            },
            "timings": {"data": 8.2, "finetune": 121.0},
        }
        return Results(**{**fields, **changes})

    return build
