"""The ids that MediaPipe really makes, read off a model whose scores are its token ids.

Runs in an environment of its own, made once under the cache folder; slow.
"""

import json
import random
import subprocess
import tempfile

import needs
import numpy as np
import pytest
import tensorflow as tf

from tfmodel.export.tflite.metadata import add_metadata
from tfmodel.tokens import Vocabulary
from tfmodel.tokens.phone import PhoneTokenizer

pytestmark = pytest.mark.slow

LENGTH = 96
CLIENT = """
import json, sys
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.text import TextClassifier, TextClassifierOptions
options = TextClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]))
with TextClassifier.create_from_options(options) as classifier:
    results = [classifier.classify(text) for text in json.load(sys.stdin)]
rows = [{c.index: c.score for c in each.classifications[0].categories} for each in results]
print(json.dumps([[row[i] for i in range(len(row))] for row in rows]))
"""
# Scripts, marks, capitals, spaces and control characters, for words in a random mixture.
ALPHABETS = [
    *(
        "ab cdAB.,!",
        "éèÉÅñß",
        "İıΣσςΩ",
        "가각한글",
        "你好！，。",
        "\u0301\u0327",
        "\u200d\ufe0f\u00ad",
    ),
    *(
        "\x01\x07\x7f\x85\x0b\x0c\x1c",
        "\t\n\r \u00a0\u2028\u3000",
        "👩👍🏽",
        "กขค่้",
        "अआकि्",
        "##[SEP]",
    ),
]


def reveal(vocabulary: Vocabulary) -> bytes:
    """A .tflite of which score i is token id i, and -1 behind the last."""
    module = tf.Module()
    spec = [tf.TensorSpec([1, LENGTH], tf.int32, name=n) for n in ("ids", "mask", "segment_ids")]

    @tf.function(input_signature=spec)
    def serve(ids, mask, segment_ids):
        real = tf.cast((ids + 1) * mask - 1 + 0 * segment_ids, tf.float32)
        return {"probability": real}

    module.serve = serve
    with tempfile.TemporaryDirectory() as saved:
        tf.saved_model.save(module, saved, signatures={"serving_default": serve})
        model = tf.lite.TFLiteConverter.from_saved_model(saved).convert()
    files = {"vocab.txt": vocabulary.pieces, "labels.txt": [f"p{i}" for i in range(LENGTH)]}
    lines = {name: "".join(f"{line}\n" for line in each).encode() for name, each in files.items()}
    return add_metadata(model, lines, name="ids", description="its token ids", version="1")


def some_texts(count: int) -> list[str]:
    generator = random.Random(1)

    def word() -> str:
        letters = generator.choice(ALPHABETS)
        return "".join(generator.choices(letters, k=generator.choice([1, 2, 3, 33, 50, 101])))

    return ["".join(word() for _ in range(generator.randrange(9))) for _ in range(count)]


def test_mediapipe_makes_the_ids_we_say_it_makes(tmp_path, vocabulary):
    letters = sorted(set("".join(ALPHABETS)) - set(" \t\n\r\x85\x0b\x0c\x1c\u2028"))
    known = set(vocabulary.pieces)
    more = [piece for c in letters for piece in (c, f"##{c}") if piece not in known]
    vocabulary = Vocabulary([*vocabulary.pieces, *more[::2], "ab", "##cd"])
    (tmp_path / "reveal.tflite").write_bytes(reveal(vocabulary))
    texts = [*some_texts(1500), "", "  ", "the\0cat", "THE CATS sat"]
    done = subprocess.run(
        [
            needs.environment("mediapipe", "mediapipe==1.2.2"),
            *("-c", CLIENT, str(tmp_path / "reveal.tflite")),
        ],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.array(json.loads(done.stdout.splitlines()[-1])).round().astype(int)
    start, end = vocabulary.start_id, vocabulary.end_id
    for text, row, ids in zip(
        texts, found, PhoneTokenizer(vocabulary).tokenize(texts), strict=True
    ):
        expected = [start, *ids[: LENGTH - 2], end]
        assert row[row >= 0].tolist() == expected, ascii(text)
