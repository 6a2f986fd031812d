"""The peer of the benchmarks: KerasHub's BERT classifier, by its own preprocessor and `fit`."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np


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
) -> dict:
    """Fine-tune on `parts["train"]`; the weights of the epoch with the best dev accuracy answer.

    Args:
        folder: a Hugging Face BERT folder.
        parts: name -> (texts, second texts or None, class ids).
        classes: how many labels there are.
        epochs: passes over the training rows.
        learning_rate: the peak rate; warm-up and decay are linear, as ours.
        batch_size: rows a batch.
        max_length: tokens every row is filled up to.
        warmup_share: share of the steps in which the rate rises.
        seed: of the head's weights, dropout and the order of rows.

    Returns:
        `seconds` of training, `values` by part: probabilities.
    """
    import keras
    import tensorflow as tf

    model = compiled(
        folder,
        classes=classes,
        steps=epochs * -(-len(parts["train"][0]) // batch_size),
        learning_rate=learning_rate,
        max_length=max_length,
        warmup_share=warmup_share,
        seed=seed,
    )

    def rows(part: str):
        texts, pairs, targets = parts[part]
        given = list(texts) if pairs is None else (list(texts), list(pairs))
        return tf.data.Dataset.from_tensor_slices((given, np.asarray(targets)))

    train_rows = rows("train").shuffle(len(parts["train"][0]), seed=seed).batch(batch_size)
    best, kept, seconds = -1.0, None, 0.0
    for _ in range(epochs):
        began = time.perf_counter()
        model.fit(train_rows, verbose=0)
        seconds += time.perf_counter() - began
        figures = model.evaluate(rows("dev").batch(64), verbose=0, return_dict=True)
        if figures["accuracy"] > best:
            best, kept = figures["accuracy"], model.get_weights()
    model.set_weights(kept)
    values = {}
    for part in parts:
        if part != "train":
            logits = model.predict(rows(part).batch(64).map(lambda x, y: x), verbose=0)
            values[part] = np.asarray(keras.ops.softmax(logits.astype("float32")))
    return {"seconds": seconds, "values": values}


def compiled(
    folder: Path,
    *,
    classes: int,
    steps: int,
    learning_rate: float,
    max_length: int,
    warmup_share: float,
    seed: int,
):
    """A classifier of texts in mixed bfloat16 with our optimizer and schedule, ready for `fit`."""
    import keras
    import keras_hub

    from tfmodel.train import linear_schedule

    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy("mixed_bfloat16")
    backbone = keras_hub.models.BertBackbone.from_preset(str(folder))
    tokenizer = keras_hub.models.BertTokenizer(str(Path(folder) / "vocab.txt"), lowercase=True)
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
        tokenizer, sequence_length=max_length
    )
    model = keras_hub.models.BertTextClassifier(
        backbone, num_classes=classes, preprocessor=preprocessor
    )
    optimizer = keras.optimizers.AdamW(
        linear_schedule(learning_rate, total_steps=steps, warmup_share=warmup_share),
        weight_decay=0.01,
        epsilon=1e-8,
        global_clipnorm=1.0,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model
