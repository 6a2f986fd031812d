"""The peer of the benchmarks: a BERT with a head, trained by transformers in torch.

Its best settings on a processor with bfloat16: autocast, fused AdamW, batches padded to their
longest row, rows of similar length together where time is measured. Same weights, rows, epochs,
rates and clipping as ours. On a GPU where torch finds one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
    max_length: int = 128,
    choose_best: bool = False,
    problem: str = SINGLE,
    judge: Callable[[np.ndarray, np.ndarray], float] | None = None,
    **settings: Any,
) -> dict:
    """Fine-tune on `parts["train"]` and measure on the other parts.

    Args:
        folder: a Hugging Face BERT folder.
        parts: name -> (texts, second texts or None, targets): class ids, 0 or 1 a label, numbers.
        classes: how many outputs there are.
        max_length: tokens a row is cut to.
        choose_best: keep the weights of the epoch that `judge` finds the best on dev.
        problem: `problem_type` of the head.
        judge: targets and values to what is to be high; accuracy by default.
        **settings: of `fit`: `epochs`, `learning_rate`, `batch_size`, `warmup_share`, `seed`.

    Returns:
        `seconds` from the first text tokenized to the last step, `values` by part (probabilities
        or numbers), `accuracy` by part where a row has one label.
    """
    import torch
    import transformers

    tokenizer, model = loaded(
        transformers.AutoModelForSequenceClassification,
        folder,
        seed=settings.get("seed", 0),
        num_labels=classes,
        problem_type=problem,
    )
    judge = judge or accuracy
    activation = {SINGLE: lambda x: x.softmax(-1), SEVERAL: torch.sigmoid, NUMBER: lambda x: x}

    def tokenize(part):
        texts, pairs, _ = parts[part]
        return rows_of(tokenizer(texts, pairs, truncation=True, max_length=max_length))

    def answer(part):
        return np.stack(
            [
                activation[problem](logits).numpy()
                for logits in answers(model, tokenizer, tokenize(part))
            ]
        )

    began = time.perf_counter()
    rows = tokenize("train")
    kind = torch.long if problem == SINGLE else torch.float32
    labels = torch.tensor(np.asarray(parts["train"][2]), dtype=kind)
    seconds = fit(
        model,
        [len(row["input_ids"]) for row in rows],
        lambda chosen: {
            **tokenizer.pad([rows[index] for index in chosen], return_tensors="pt"),
            "labels": labels[chosen],
        },
        judge=(lambda: judge(parts["dev"][2], answer("dev"))) if choose_best else None,
        began=began,
        **settings,
    )
    values = {part: answer(part) for part in parts if part != "train"}
    found = {"seconds": seconds, "values": values}
    if problem == SINGLE:
        found["accuracy"] = {part: accuracy(parts[part][2], values[part]) for part in values}
    return found


def train_tagger(
    folder: Path,
    parts: dict[str, tuple],
    *,
    tags: Sequence[str],
    judge: Callable[[Sequence, Sequence], float],
    max_length: int = 128,
    **settings: Any,
) -> dict:
    """Fine-tune a tagger of words; the first piece of each has its tag, as in `run_ner.py`.

    Args:
        folder: a Hugging Face BERT folder.
        parts: name -> (texts, None, spans): (start, end, label) in characters, of each text.
        tags: `O`, and `B-` and `I-` of each label.
        judge: right and given spans to what is to be high on dev.
        max_length: tokens a text is cut to; what is behind has no entities.
        **settings: of `fit`.

    Returns:
        `seconds`, and `values` by part: the spans of each text.
    """
    import torch
    import transformers

    tokenizer, model = loaded(
        transformers.AutoModelForTokenClassification,
        folder,
        seed=settings.get("seed", 0),
        num_labels=len(tags),
    )
    ids = {tag: index for index, tag in enumerate(tags)}

    def tokenize(part):
        found = tokenizer(
            parts[part][0], truncation=True, max_length=max_length, return_offsets_mapping=True
        )
        words = []
        for row, offsets in enumerate(found["offset_mapping"]):
            first: dict[int, list[int]] = {}  # word -> place of its first piece, start, end
            for place, word in enumerate(found.word_ids(row)):
                if word is not None:
                    first.setdefault(word, [place, *offsets[place]])[2] = offsets[place][1]
            words.append(list(first.values()))
        return rows_of(found), words

    def tags_of(words, spans):
        found = []
        for _, start, end in words:
            label = next((s for s in spans if s[0] < end and s[1] > start), None)
            is_first = label is not None and label[0] >= start
            found.append("O" if label is None else f"{'B' if is_first else 'I'}-{label[2]}")
        return found

    def answer(part):
        rows, words = tokenize(part)
        found = []
        for logits, each in zip(answers(model, tokenizer, rows), words, strict=True):
            given = [tags[int(logits[place].argmax())] for place, _, _ in each]
            found.append(spans_of([(start, end) for _, start, end in each], given))
        return found

    began = time.perf_counter()
    rows, words = tokenize("train")
    for row, each, spans in zip(rows, words, parts["train"][2], strict=True):
        labels = np.full(len(row["input_ids"]), -100)
        labels[[place for place, *_ in each]] = [ids[tag] for tag in tags_of(each, spans)]
        row["labels"] = labels

    def batch(chosen):
        plain = [{k: v for k, v in rows[index].items() if k != "labels"} for index in chosen]
        found = tokenizer.pad(plain, return_tensors="pt")
        labels = torch.full(found["input_ids"].shape, -100)
        for line, index in enumerate(chosen):
            labels[line, : len(rows[index]["labels"])] = torch.tensor(rows[index]["labels"])
        return {**found, "labels": labels}

    seconds = fit(
        model,
        [len(row["input_ids"]) for row in rows],
        batch,
        judge=lambda: judge(parts["dev"][2], answer("dev")),
        began=began,
        **settings,
    )
    return {"seconds": seconds, "values": {part: answer(part) for part in parts if part != "train"}}


def spans_of(words: Sequence[tuple[int, int]], tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Tags of words to spans of characters as conlleval reads them: `I-` may begin one."""
    found: list[tuple[int, int, str]] = []
    before = "O"
    for (start, end), tag in zip(words, tags, strict=True):
        if tag != "O":
            if tag[0] == "I" and before[2:] == tag[2:]:
                found[-1] = (found[-1][0], end, tag[2:])
            else:
                found.append((start, end, tag[2:]))
        before = tag
    return found


def train_answerer(
    folder: Path,
    parts: dict[str, tuple],
    *,
    judge: Callable[[Sequence, Sequence[str]], float],
    max_length: int = 384,
    doc_stride: int = 128,
    max_answer_length: int = 30,
    best: int = 20,
    **settings: Any,
) -> dict:
    """Fine-tune an answerer of questions, windows and answers as in `run_qa.py`.

    Args:
        folder: a Hugging Face BERT folder.
        parts: name -> (questions, contexts, answers): (text, start) of each right one.
        judge: right answers and given texts to what is to be high on dev.
        max_length: tokens a window.
        doc_stride: tokens that two windows share.
        max_answer_length: tokens of an answer at most.
        best: starts and ends that are tried in each window.
        **settings: of `fit`.

    Returns:
        `seconds`, and `values` by part: the answer of each question.
    """
    import torch
    import transformers

    tokenizer, model = loaded(
        transformers.AutoModelForQuestionAnswering, folder, seed=settings.get("seed", 0)
    )

    def tokenize(part):
        found = tokenizer(
            parts[part][0],
            parts[part][1],
            truncation="only_second",
            max_length=max_length,
            stride=doc_stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        offsets = [  # of the context's tokens alone
            [o if s == 1 else None for o, s in zip(each, found.sequence_ids(row), strict=True)]
            for row, each in enumerate(found["offset_mapping"])
        ]
        return rows_of(found), found["overflow_to_sample_mapping"], offsets

    def answer(part):
        rows, of, offsets = tokenize(part)
        contexts = parts[part][1]
        found = [(-np.inf, "")] * len(contexts)
        for logits, row, places in zip(answers(model, tokenizer, rows), of, offsets, strict=True):
            begin, end = logits.numpy().T
            for first in np.argsort(-begin)[:best]:
                for last in np.argsort(-end)[:best]:
                    if first >= len(places) or last >= len(places) or last < first:
                        continue
                    if places[first] is None or places[last] is None:
                        continue
                    score = begin[first] + end[last]
                    if last - first < max_answer_length and score > found[row][0]:
                        text = contexts[row][places[first][0] : places[last][1]]
                        found[row] = (score, text)
        return [text for _, text in found]

    began = time.perf_counter()
    rows, of, offsets = tokenize("train")
    places = []
    for row, each in zip(of, offsets, strict=True):
        text, start = parts["train"][2][row][0]
        inside = [
            place
            for place, offset in enumerate(each)
            if offset and offset[0] < start + len(text) and offset[1] > start
        ]
        whole = inside and each[inside[0]][0] <= start
        whole = whole and each[inside[-1]][1] >= start + len(text)
        places.append((inside[0], inside[-1]) if whole else (0, 0))
    places = torch.tensor(places)
    seconds = fit(
        model,
        [len(row["input_ids"]) for row in rows],
        lambda chosen: {
            **tokenizer.pad([rows[index] for index in chosen], return_tensors="pt"),
            "start_positions": places[chosen, 0],
            "end_positions": places[chosen, 1],
        },
        judge=lambda: judge(parts["dev"][2], answer("dev")),
        began=began,
        **settings,
    )
    return {"seconds": seconds, "values": {part: answer(part) for part in parts if part != "train"}}


def loaded(kind: Any, folder: Path, *, seed: int, **arguments: Any) -> tuple[Any, Any]:
    """The tokenizer, and the model with a new head that hangs of the seed."""
    import torch
    import transformers

    torch.manual_seed(seed)
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = kind.from_pretrained(folder, **arguments)
    return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu")


def rows_of(tokenized: Any) -> list[dict[str, Any]]:
    """What `tokenizer.pad` takes of each row."""
    return [
        {key: tokenized[key][index] for key in ("input_ids", "token_type_ids")}
        for index in range(len(tokenized["input_ids"]))
    ]


def answers(model: Any, tokenizer: Any, rows: Sequence[dict]) -> list[Any]:
    """The logits of each row in float32, rows of similar length at once; start and end stacked."""
    import torch

    order = np.argsort([len(row["input_ids"]) for row in rows], kind="stable")
    found = [None] * len(rows)
    model.eval()
    with torch.no_grad():
        for start in range(0, len(order), 64):
            chosen = order[start : start + 64]
            batch = tokenizer.pad([rows[index] for index in chosen], return_tensors="pt")
            given = model(**batch.to(model.device))
            if "logits" not in given:
                given = torch.stack([given.start_logits, given.end_logits], -1)
            else:
                given = given.logits
            for index, logits in zip(chosen, given.float().cpu(), strict=True):
                found[index] = logits
    return found


def fit(
    model: Any,
    lengths: Sequence[int],
    batch: Callable[[np.ndarray], dict],
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int = 32,
    warmup_share: float = 0.1,
    seed: int = 0,
    grouped: bool = True,
    judge: Callable[[], float] | None = None,
    began: float,
) -> float:
    """Train a model in place; with `judge` its weights are those of the best epoch.

    Args:
        model: from `loaded`.
        lengths: tokens of each row.
        batch: indices of rows to what the model takes, labels among it.
        epochs: passes over the rows.
        learning_rate: the peak rate; warm-up and decay are linear.
        batch_size: rows a batch.
        warmup_share: share of the steps in which the rate rises.
        seed: of the order of rows; dropout goes on from `loaded`.
        grouped: rows of similar length together, long before short: little padding, but the order
            moves what is learned of few rows, up or down; else at random, the Trainer's default.
        judge: what is to be high after an epoch.
        began: when the work began, by `time.perf_counter`.

    Returns:
        Seconds since then, less what `judge` took.
    """
    import torch
    import transformers

    lengths = np.asarray(lengths)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=learning_rate,
        fused=True,
    )
    total = epochs * -(-len(lengths) // batch_size)
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, round(warmup_share * total), total
    )
    random = np.random.default_rng(seed)
    plan = length_grouped if grouped else shuffled
    best, best_weights, seconds = -np.inf, None, 0.0
    for _ in range(epochs):
        model.train()
        for chosen in plan(lengths, batch_size, random):
            given = {name: value.to(model.device) for name, value in batch(chosen).items()}
            with torch.autocast(model.device.type, torch.bfloat16):
                loss = model(**given).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        seconds += time.perf_counter() - began
        if judge is not None:
            figure = judge()
            if figure > best:
                best = figure
                best_weights = {k: v.clone() for k, v in model.state_dict().items()}
        began = time.perf_counter()
    if best_weights is not None:
        model.load_state_dict(best_weights)
    return seconds


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


def shuffled(lengths, batch_size: int, random: np.random.Generator) -> list[np.ndarray]:
    """Batches of any rows."""
    order = random.permutation(len(lengths))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
