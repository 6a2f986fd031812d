"""Pretrain an encoder on token documents through `model.fit`, and go on where it stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from tfmodel.train.pretrain_settings import PretrainSettings


@dataclasses.dataclass(frozen=True)
class PretrainResult:
    """What a pretraining says of itself.

    Attributes:
        steps: one dict a step (in long runs a mean over several): step, loss, learning_rate,
            tokens_per_second, gradient_norm.
        dev: one dict an evaluation: step, loss, perplexity (of objectives with a masked language
            model), and the loss and accuracy of each part of the objective.
        total_steps: steps of the whole run.
        seconds: wall clock from the first batch asked for to the end of the last step; tracing
            and the writing of checkpoints in, dev evaluation out.
        examples: rows trained on, each epoch anew.
        tokens: real tokens trained on.
        padding_share: share of padding among the tokens of an epoch's batches.
        resumed_at_steps: steps at which training was taken up again.
    """

    steps: list[dict]
    dev: list[dict]
    total_steps: int
    seconds: float
    examples: int
    tokens: int
    padding_share: float
    resumed_at_steps: list[int]


def pretrain(
    model: keras.Model,
    batches: Any,
    dev_batches: Any | None = None,
    *,
    task: Any,
    settings: PretrainSettings,
    seed: int = 0,
    checkpoints: str | Path,
    logs: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    key: str = "",
) -> PretrainResult:
    """Train a model of an objective; its last weights are in it afterwards.

    Interrupted (Ctrl-C, SIGTERM, kill -9) and called again with the same arguments, it
    continues from the last checkpoint, bit for bit as if it had not been.

    Args:
        model: from the task's `build`.
        batches: the `PretrainingBatches` to train on.
        dev_batches: those to measure on, the same masks each time (`fixed=True`), or None.
        task: the objective's module, of `tasks.find_objective(name)`.
        settings: resolved settings (no `auto` left).
        seed: shown where the training is watched; of rows and masks it is the batches', the
            model's own random states are the caller's.
        checkpoints: folder for what an interrupted run continues from.
        logs: TensorBoard folder, or None: not watched.
        config: settings beside these, to show where the training is watched.
        key: fingerprint of everything that the result depends on; a checkpoint of another
            key is refused.

    Returns:
        Figures and history.

    Raises:
        ConfigError: the checkpoint is another run's.
        FloatingPointError: the loss is no longer a number.
        ValueError: the settings are not resolved.
    """
    raise NotImplementedError
