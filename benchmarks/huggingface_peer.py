"""The peer of the benchmarks: a BERT with a head on one vector, trained by transformers in torch.

Its best settings on a processor with bfloat16: autocast, fused AdamW, batches of rows of
similar length, padded to the longest. Same weights, rows, epochs, rates and clipping as ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SINGLE, SEVERAL, NUMBER = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)


def train(
    folder: Path,
    parts: dict[str, tuple],
    *,
    classes: int,
    epochs: int,
    learning_rate: float,
    batch_size: int = 32,
    max_length: int = 128,
    warmup_share: float = 0.1,
    seed: int = 0,
    choose_best: bool = False,
    problem: str = SINGLE,
    judge: Callable[[np.ndarray, np.ndarray], float] | None = None,
) -> dict:
    """Fine-tune on `parts["train"]` and measure on the other parts.

    Args:
        folder: a Hugging Face BERT folder.
        parts: name -> (texts, second texts or None, targets): class ids, 0 or 1 a label, numbers.
        classes: how many outputs there are.
        epochs: passes over the training rows.
        learning_rate: the peak rate; warm-up and decay are linear.
        batch_size: rows a batch.
        max_length: tokens a row is cut to.
        warmup_share: share of the steps in which the rate rises.
        seed: of the head's weights, dropout and the order of rows.
        choose_best: keep the weights of the epoch that `judge` finds the best on dev.
        problem: `problem_type` of the head.
        judge: targets and values to what is to be high; accuracy by default.

    Returns:
        `seconds` from the first text tokenized to the last step, `values` by part (probabilities
        or numbers), `accuracy` by part where a row has one label.
    """
    import torch
    import transformers

    torch.manual_seed(seed)
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=classes, problem_type=problem
    )
    judge = judge or accuracy
    activation = {SINGLE: lambda x: x.softmax(-1), SEVERAL: torch.sigmoid, NUMBER: lambda x: x}

    def tokenize(part):
        texts, pairs, _ = parts[part]
        rows = tokenizer(texts, pairs, truncation=True, max_length=max_length)
        return [
            {key: rows[key][index] for key in ("input_ids", "token_type_ids")}
            for index in range(len(texts))
        ]

    def answer(part):
        rows = tokenize(part)
        order = np.argsort([len(row["input_ids"]) for row in rows], kind="stable")
        found = np.empty((len(rows), classes), np.float32)
        model.eval()
        with torch.no_grad():
            for start in range(0, len(order), 64):
                chosen = order[start : start + 64]
                batch = tokenizer.pad([rows[index] for index in chosen], return_tensors="pt")
                found[chosen] = activation[problem](model(**batch).logits.float()).numpy()
        return found

    began = time.perf_counter()
    rows = tokenize("train")
    kind = torch.long if problem == SINGLE else torch.float32
    labels = torch.tensor(np.asarray(parts["train"][2]), dtype=kind)
    lengths = np.array([len(row["input_ids"]) for row in rows])
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=learning_rate,
        fused=True,
    )
    total = epochs * -(-len(rows) // batch_size)
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, round(warmup_share * total), total
    )
    random = np.random.default_rng(seed)
    best, best_weights, seconds = -np.inf, None, 0.0
    for _ in range(epochs):
        model.train()
        for chosen in length_grouped(lengths, batch_size, random):
            batch = tokenizer.pad([rows[index] for index in chosen], return_tensors="pt")
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(**batch, labels=labels[chosen]).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        seconds += time.perf_counter() - began
        if choose_best:
            figure = judge(parts["dev"][2], answer("dev"))
            if figure > best:
                best = figure
                best_weights = {k: v.clone() for k, v in model.state_dict().items()}
        began = time.perf_counter()
    if best_weights is not None:
        model.load_state_dict(best_weights)
    values = {part: answer(part) for part in parts if part != "train"}
    found = {"seconds": seconds, "values": values}
    if problem == SINGLE:
        found["accuracy"] = {part: accuracy(parts[part][2], values[part]) for part in values}
    return found


def accuracy(targets: np.ndarray, values: np.ndarray) -> float:
    """Share of rows whose most probable class is the right one."""
    return float((np.asarray(values).argmax(-1) == np.asarray(targets)).mean())


def length_grouped(lengths, batch_size: int, random: np.random.Generator) -> list[np.ndarray]:
    """Batches of similar length, as transformers' LengthGroupedSampler makes them."""
    order = random.permutation(len(lengths))
    chunk = 50 * batch_size
    batches = []
    for start in range(0, len(order), chunk):
        part = order[start : start + chunk]
        part = part[np.argsort(-lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return batches
