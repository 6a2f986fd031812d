"""The peers of `benchmarks/serving.py`: one function in FastAPI, as one writes it for the job.

Run: python benchmarks/serving_peers.py torch FOLDER --port 9000 --dtype bfloat16 --threads 2
     python benchmarks/serving_peers.py onnxruntime FOLDER --port 9000 --threads 1

It answers `POST /v1/models/model:predict` with `{"instances": [text, …]}` as TF Serving does, so
that one load generator asks all. uvicorn has uvloop and httptools where they are installed. As many
requests are computed at once as threads of `--threads` have room on the cores.
"""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

MAX_LENGTH = 128
LABELS = ["a", "b", "c", "d", "e", "f"]
NAMES = ["input_ids", "attention_mask", "token_type_ids"]
Ask = Callable[[list[str]], np.ndarray]
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=["torch", "onnxruntime"])
    parser.add_argument("folder", type=Path, help="with model/ and, for ONNX Runtime, fused.onnx")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    if options.peer == "torch":
        ask = torch_model(options.folder, options.dtype, options.threads)
    else:
        ask = onnxruntime_model(options.folder, options.threads)
    serve(ask, options.port, at_once=max(1, (os.cpu_count() or 1) // options.threads))


def serve(ask: Ask, port: int, *, at_once: int) -> None:
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    app = FastAPI()
    room = threading.Semaphore(at_once)

    class Body(BaseModel):
        instances: list[str]

    def predict(body):
        with room:
            scores = ask(body.instances)
        best = scores.argmax(-1).tolist()
        return {
            "predictions": [
                {"label": LABELS[label], "score": row[label], "scores": row}
                for label, row in zip(best, scores.tolist(), strict=True)
            ]
        }

    predict.__annotations__ = {"body": Body}
    app.post("/v1/models/{name}:predict")(predict)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False, backlog=2048)


def torch_model(folder: Path, dtype: str, threads: int) -> Ask:
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = BertForSequenceClassification.from_pretrained(
        folder / "model", dtype=getattr(torch, dtype)
    ).eval()

    def ask(texts: list[str]) -> np.ndarray:
        batch = tokenizer(
            texts, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
        )
        with torch.inference_mode():
            return torch.softmax(model(**batch).logits.float(), -1).numpy()

    return ask


def write_onnx(folder: Path) -> None:
    """Hugging Face's model through torch's exporter and ONNX Runtime's optimizer for BERT."""
    import torch
    from onnxruntime.transformers import optimizer
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(folder / "model").eval()

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *inputs):
            return self.model(**dict(zip(NAMES, inputs, strict=True))).logits

    torch.onnx.export(
        Logits(),
        tuple(torch.ones((2, 8), dtype=torch.int64) for _ in NAMES),
        str(folder / "plain.onnx"),
        dynamo=False,
        opset_version=17,
        input_names=NAMES,
        output_names=["logits"],
        dynamic_axes={name: {0: "rows", 1: "tokens"} for name in NAMES},
    )
    optimizer.optimize_model(
        str(folder / "plain.onnx"),
        model_type="bert",
        num_heads=model.config.num_attention_heads,
        hidden_size=model.config.hidden_size,
    ).save_model_to_file(str(folder / "fused.onnx"))


def onnxruntime_model(folder: Path, threads: int) -> Ask:
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(folder / "fused.onnx"), options, providers=["CPUExecutionProvider"]
    )
    fast = Tokenizer.from_file(str(folder / "model/tokenizer.json"))
    fast.enable_truncation(MAX_LENGTH)
    fast.enable_padding()

    def ask(texts: list[str]) -> np.ndarray:
        rows = fast.encode_batch(texts)
        columns = zip(
            NAMES,
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


if __name__ == "__main__":
    main()
