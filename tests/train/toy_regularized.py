"""Regularized trainings on one device and on two, as a program: prints how far they are apart."""

import json

import keras
import numpy as np
import tensorflow as tf
import toy

from tfmodel.tasks import classify
from tfmodel.train import adamw
from tfmodel.train.regularize import (
    ExponentialMovingAverage,
    GradualUnfreezing,
    LearningRateOnPlateau,
    StochasticWeightAveraging,
    layer_rates,
    set_dropout,
)
from tfmodel.train.step import TrainingModel


def train(strategy) -> tuple[list[float], np.ndarray]:
    """Two trainings of one model, one after the other: losses, and all weights."""
    with strategy.scope():
        model = toy.new_model()
        set_dropout(model, hidden=0.0, attention=0.0, embeddings=0.0, head=0.0)
        training = TrainingModel(model)
        rates = layer_rates(model, 0.8)
        optimizer = adamw(0.01, total_steps=28, rate_factors=rates)
        loss = classify.loss(label_smoothing=0.1, focal_gamma=1.0)
        training.compile(optimizer, loss=loss, jit_compile=False)
    rows = toy.rows(64)
    batch = toy.tokenizer()(rows.texts), np.asarray(rows.labels)
    data = tf.data.Dataset.from_tensor_slices(batch).batch(16)
    plateau = LearningRateOnPlateau("loss", min_delta=10.0)  # falls after every epoch but one
    average = ExponentialMovingAverage(0.9)
    losses = []
    for epochs, callbacks in (
        (4, [average, GradualUnfreezing(2), plateau]),
        (3, [StochasticWeightAveraging(2, learning_rate=0.002)]),
    ):
        history = training.fit(data, epochs=epochs, verbose=0, callbacks=callbacks, shuffle=False)
        losses += history.history["loss"]
    return losses, np.concatenate([np.ravel(w.numpy()) for w in model.weights])


def main() -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    one = train(tf.distribute.get_strategy())
    keras.backend.clear_session()
    two = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    apart = [float(np.abs(np.subtract(a, b)).max()) for a, b in zip(one, two, strict=True)]
    print(json.dumps({"losses": apart[0], "weights": apart[1], "last": one[0][-1]}))


if __name__ == "__main__":
    main()
