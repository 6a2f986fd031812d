"""Answers a second: our SavedModel and TFLite against Hugging Face, ONNX Runtime and KerasHub.

Run: pip install -e '.[parity,onnx,keras-hub]'
     TFMODEL_DATA=/path/to/data python benchmarks/inference.py            # servers and phones
     TFMODEL_DATA=/path/to/data python benchmarks/inference.py --only savedmodel

The data is a folder with `wiki_en/` (files wiki_*) and `trec6/`. The model is MiniLM (6 layers, D
384) with a random head for 6 classes; what a head says takes no time of note. Texts become scores:

    short   questions of TREC, 10 tokens on average
    mixed   lines of Wikipedia as they come, 31 tokens on average, up to 128
    long    lines of Wikipedia with 128 tokens after truncation

Servers: the contenders take turns, each in a process of its own with two threads; in a turn each
answers the same batches, one after the other, and the order moves on by one in every round. Each
batch is asked once, so that its length is as unforeseen as in production. Printed are rows a second
(the median round) and, for ours in mixed_bfloat16, the ratio to the best of the peers (the median
of the rounds' ratios), each peer with its best settings: torch in float32 and in bfloat16, rows
padded to the longest of the batch by its fast tokenizer; ONNX Runtime on the graph that its own
optimizer for BERT has fused.

Phones: one row at a time on one thread. Ours with rows of 128 and with rows as long as the text,
KerasHub's own LiteRT export of the same weights with rows of 128 (it has no float16); tokenized
beforehand, since KerasHub's export takes ids. In turn, row by row.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

THREADS = 2
MAX_LENGTH = 128
BATCHES_A_ROUND = {1: 40, 8: 10, 32: 4}
PAUSE_SECONDS = 0.1
"""Before each turn: threads of the one before may spin a little longer."""
LABELS = ["a", "b", "c", "d", "e", "f"]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["RAYON_NUM_THREADS"] = str(THREADS)
os.environ["TOKENIZERS_PARALLELISM"] = "true"

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_text  # noqa: E402, F401

import tfmodel as tm  # noqa: E402

Ask = Callable[[list[str]], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="turns of the contenders")
    parser.add_argument("--rows", type=int, default=60, help="rows a line of phones")
    parser.add_argument("--only", choices=["savedmodel", "tflite"])
    options = parser.parse_args()
    texts = read_texts(Path(os.environ.get("TFMODEL_DATA", "../shared/data")))
    with tempfile.TemporaryDirectory() as work:
        if options.only != "tflite":
            compare_servers(Path(work), texts, rounds=options.rounds)
        if options.only != "savedmodel":
            compare_phones(Path(work), texts, rows=options.rows)


def read_texts(data: Path) -> dict[str, list[str]]:
    lines = [
        line.strip()
        for path in sorted((data / "wiki_en").glob("wiki_*"))
        for line in path.read_text("utf-8").splitlines()
        if line.strip() and not line.startswith("<")
    ]
    questions = [
        line.decode("latin-1").split(" ", 1)[1].strip()
        for line in (data / "trec6" / "TREC.train.all").open("rb")
    ]
    generator = np.random.default_rng(0)
    shuffled = [lines[row] for row in generator.permutation(len(lines))]
    return {
        "short": [questions[row] for row in generator.permutation(len(questions))],
        "mixed": shuffled,
        "long": [line for line in shuffled if len(line) > 900],
    }


def our_model():
    folder = tm.fetch(tm.DEFAULT_ENCODER)
    keras.utils.set_random_seed(0)
    tokenizer = tm.Tokenizer.from_folder(folder, max_length=MAX_LENGTH)
    model = tm.tasks.classify.build(
        tm.load_encoder(folder, sequence=False, dtype="float32"), classes=len(LABELS)
    )
    head = model.get_layer("head")
    head.kernel.assign(head.kernel.numpy() * 20)
    return model, tokenizer


# --- servers ----------------------------------------------------------------------------------


def compare_servers(work: Path, texts: dict[str, list[str]], *, rounds: int) -> None:
    model, tokenizer = our_model()
    tm.tasks.classify.save(model, work / "model", tokenizer=tokenizer, labels=LABELS)
    with contextlib.ExitStack() as stack:
        contenders = {
            name: stack.enter_context(Contender(make, work / "model", work))
            for name, make in SERVERS.items()
        }
        check_that_all_answer_alike(contenders, texts["mixed"][:64])
        print(f"\nrows a second, {THREADS} threads, medians of {rounds} rounds")
        heads = "".join(f"{name:>21}" for name in contenders)
        print(f"{'texts':<7}{'batch':>6}{heads}   ratio")
        for kind, rows in texts.items():
            for size in (1, 8, 32):
                seconds = time_rounds(contenders, rows, size, rounds)
                print_servers(kind, size, seconds)


def print_servers(kind: str, size: int, seconds: dict[str, list[float]]) -> None:
    peers = [name for name in seconds if not name.startswith("ours")]
    best = min(peers, key=lambda name: statistics.median(seconds[name]))
    ours = seconds["ours mixed_bfloat16"]
    ratios = [theirs / own for theirs, own in zip(seconds[best], ours, strict=True)]
    rates = "".join(f"{size / statistics.median(each):>21.1f}" for each in seconds.values())
    print(f"{kind:<7}{size:>6}{rates}{statistics.median(ratios):>8.2f}", flush=True)


class Contender:
    """One way to answer, in a process of its own: idle threads of one spin in nobody's time.

    Args:
        make: makes the function from texts to scores, in that process.
        arguments: of `make`.
    """

    def __init__(self, make: Callable[..., Ask], *arguments):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_answer_asked, args=(theirs, make, arguments))

    def __enter__(self):
        self._process.start()
        self._pipe.recv()
        return self

    def __exit__(self, *error):
        self._pipe.send(None)
        self._process.join()

    def __call__(self, batches: list[list[str]]) -> tuple[np.ndarray, float]:
        """Scores of all rows, and the seconds they took in the process itself."""
        self._pipe.send(batches)
        return self._pipe.recv()


def _answer_asked(pipe, make: Callable[..., Ask], arguments) -> None:
    ask = make(*arguments)
    pipe.send("ready")
    while (batches := pipe.recv()) is not None:
        started = time.perf_counter()
        scores = [ask(texts) for texts in batches]
        pipe.send((np.concatenate(scores), time.perf_counter() - started))


def time_rounds(
    contenders: dict[str, Contender], rows: list[str], size: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds a batch, for each round of each contender; two more rounds before warm up."""
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    count = BATCHES_A_ROUND[size]
    for number in range(-2, rounds):
        first = (number + 2) * count * size
        chosen = [rows[(first + row) % len(rows)] for row in range(count * size)]
        batches = [chosen[start : start + size] for start in range(0, len(chosen), size)]
        for turn in range(len(names)):
            name = names[(turn + number) % len(names)]
            time.sleep(PAUSE_SECONDS)
            _, taken = contenders[name](batches)
            if number >= 0:
                seconds[name].append(taken / count)
    return seconds


def check_that_all_answer_alike(contenders: dict[str, Contender], texts: list[str]) -> None:
    answers = {name: ask([texts])[0] for name, ask in contenders.items()}
    wanted = answers["ours float32"]
    for name, scores in answers.items():
        difference = float(np.abs(scores - wanted).max())
        print(f"{name}: scores differ from ours in float32 by {difference:.2g} at most")
        assert difference < (1e-4 if "bfloat16" not in name else 0.1), name


def savedmodel(folder: Path, work: Path, precision: str) -> Ask:
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    trained = tm.tasks.load_model(folder, dtype="float32")
    version = tm.export_savedmodel(
        trained.model,
        trained.tokenizer,
        work / precision,
        labels=LABELS,
        max_length=MAX_LENGTH,
        precision=precision,
    )
    loaded = tf.saved_model.load(str(version))

    def ask(texts: list[str]) -> np.ndarray:
        return loaded.signatures["serving_default"](text=tf.constant(texts))["scores"].numpy()

    return ask


def torch_model(folder: Path, work: Path, dtype: str) -> Ask:
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.set_num_threads(THREADS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, dtype))
    model.eval()

    def ask(texts: list[str]) -> np.ndarray:
        batch = tokenizer(
            texts, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
        )
        with torch.inference_mode():
            return torch.softmax(model(**batch).logits.float(), -1).numpy()

    return ask


def onnxruntime_model(folder: Path, work: Path) -> Ask:
    """Hugging Face's model through torch's exporter and ONNX Runtime's optimizer for BERT."""
    import onnxruntime
    import torch
    from onnxruntime.transformers import optimizer
    from transformers import AutoTokenizer, BertForSequenceClassification

    names = ["input_ids", "attention_mask", "token_type_ids"]
    model = BertForSequenceClassification.from_pretrained(folder).eval()

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.model(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).logits

    axes = {name: {0: "rows", 1: "tokens"} for name in names}
    example = tuple(torch.ones((2, 8), dtype=torch.int64) for _ in names)
    plain, fused = str(work / "plain.onnx"), str(work / "fused.onnx")
    torch.onnx.export(
        Logits(),
        example,
        plain,
        dynamo=False,
        opset_version=17,
        input_names=names,
        output_names=["logits"],
        dynamic_axes=axes,
    )
    shape = model.config
    optimizer.optimize_model(
        plain,
        model_type="bert",
        num_heads=shape.num_attention_heads,
        hidden_size=shape.hidden_size,
    ).save_model_to_file(fused)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(fused, options, providers=["CPUExecutionProvider"])
    fast = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    fast.enable_truncation(MAX_LENGTH)
    fast.enable_padding()

    def ask(texts: list[str]) -> np.ndarray:
        rows = fast.encode_batch(texts)
        columns = zip(
            names,
            (
                [row.ids for row in rows],
                [row.attention_mask for row in rows],
                [row.type_ids for row in rows],
            ),
            strict=True,
        )
        (logits,) = session.run(None, {name: np.array(v, np.int64) for name, v in columns})
        exponentials = np.exp(logits - logits.max(-1, keepdims=True))
        return exponentials / exponentials.sum(-1, keepdims=True)

    return ask


SERVERS = {
    "ours float32": functools.partial(savedmodel, precision="float32"),
    "ours mixed_bfloat16": functools.partial(savedmodel, precision="mixed_bfloat16"),
    "torch float32": functools.partial(torch_model, dtype="float32"),
    "torch bfloat16": functools.partial(torch_model, dtype="bfloat16"),
    "onnxruntime": onnxruntime_model,
}


# --- phones -----------------------------------------------------------------------------------


def compare_phones(work: Path, texts: dict[str, list[str]], *, rows: int) -> None:
    model, tokenizer = our_model()
    described = {"labels": LABELS, "max_length": MAX_LENGTH}
    pairs = {}
    for precision in ("float32", "int8"):
        ours = {
            length: tm.export_tflite(
                model,
                tokenizer,
                work / f"{precision}_{length}.tflite",
                quantization=precision,
                length=length,
                **described,
            )
            for length in ("fixed", "dynamic")
        }
        pairs[precision] = (ours, keras_hub_tflite(model, work, precision))
    print(f"\nmilliseconds a row on one thread, means of {rows} rows; ratios to KerasHub's")
    heads = ("ours fixed", "ours dynamic", "KerasHub")
    print(f"{'texts':<7}{'format':<9}" + "".join(f"{head:>14}" for head in heads) + "   ratios")
    for precision, (ours, theirs) in pairs.items():
        asked = {
            "ours fixed": our_interpreter(ours["fixed"], is_dynamic=False),
            "ours dynamic": our_interpreter(ours["dynamic"], is_dynamic=True),
        }
        if theirs is not None:
            asked["KerasHub"] = keras_hub_interpreter(theirs)
        for kind in ("long", "mixed", "short"):
            batches = [
                {name: values.numpy() for name, values in tokenizer([text]).items()}
                for text in texts[kind][:rows]
            ]
            print_phones(kind, precision, time_rows(asked, batches))


def time_rows(asked: dict[str, Callable], batches: list[dict]) -> dict[str, list[float]]:
    milliseconds: dict[str, list[float]] = {name: [] for name in asked}
    for name in asked:
        asked[name](batches[0])
    for batch in batches:
        for name, ask in asked.items():
            started = time.perf_counter()
            ask(batch)
            milliseconds[name].append(1000 * (time.perf_counter() - started))
    return milliseconds


def print_phones(kind: str, precision: str, milliseconds: dict[str, list[float]]) -> None:
    # Means: on texts of mixed lengths the long ones are most of the time.
    mean = {name: statistics.fmean(each) for name, each in milliseconds.items()}
    line = f"{kind:<7}{precision:<9}" + "".join(f"{value:>14.2f}" for value in mean.values())
    if "KerasHub" in mean:
        theirs = mean["KerasHub"]
        line += "   " + ", ".join(
            f"{theirs / value:.2f}" for name, value in mean.items() if name != "KerasHub"
        )
    print(line, flush=True)


def padded(batch: dict, length: int) -> dict:
    return {
        name: np.pad(values[:, :length], [(0, 0), (0, max(length - values.shape[1], 0))])
        for name, values in batch.items()
    }


def our_interpreter(path: Path, *, is_dynamic: bool) -> Callable:
    from tfmodel.export.tflite.litert import LiteRT

    run = LiteRT(path, threads=1)

    def ask(batch: dict) -> np.ndarray:
        return run(batch if is_dynamic else padded(batch, MAX_LENGTH))

    return ask


def keras_hub_tflite(model, work: Path, precision: str) -> Path | None:
    """The same weights in KerasHub, exported by its own LiteRT export."""
    import keras_hub

    shape = tm.model.encoder_config(model.get_layer("encoder"))
    preset = tm.export.export_keras_hub(
        model,
        tm.Tokenizer.from_folder(tm.fetch(tm.DEFAULT_ENCODER), max_length=MAX_LENGTH),
        work / f"keras_hub_{precision}",
        labels=LABELS,
        max_length=MAX_LENGTH,
    )
    classifier = keras_hub.models.BertTextClassifier.from_preset(str(preset), preprocessor=None)
    assert classifier.backbone.num_layers == shape.layers
    path = work / f"keras_hub_{precision}.tflite"
    optimizations = {
        "float32": {},
        "int8": {"optimizations": [tf.lite.Optimize.DEFAULT]},
    }[precision]
    signature = [
        keras.InputSpec(dtype="int32", shape=(1, MAX_LENGTH), name=name)
        for name in ("padding_mask", "segment_ids", "token_ids")
    ]
    try:
        classifier.export(
            str(path),
            format="litert",
            input_signature=[{spec.name: spec for spec in signature}],
            **optimizations,
        )
    except Exception as error:  # the peer's own failure is a finding, not ours
        print(f"KerasHub's LiteRT export in {precision} failed: {str(error)[:200]}")
        return None
    return path


def keras_hub_interpreter(path: Path) -> Callable:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    names = ("token_ids", "segment_ids", "padding_mask")
    inputs = {
        next(name for name in names if name in tensor["name"]): tensor["index"]
        for tensor in interpreter.get_input_details()
    }
    output = interpreter.get_output_details()[0]["index"]

    def ask(batch: dict) -> np.ndarray:
        for name, values in padded(batch, MAX_LENGTH).items():
            interpreter.set_tensor(inputs[name], values.astype(np.int32))
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return ask


if __name__ == "__main__":
    main()
