"""The `train:` section of a supervised run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tfmodel.config import Settings
from tfmodel.tasks import TASKS
from tfmodel.train.adversarial.settings import AdversarialSettings
from tfmodel.train.few_labels.settings import METHODS, FewLabelsSettings
from tfmodel.train.regularize.settings import FIGURES, RegularizeSettings
from tfmodel.train.watch.settings import WatchSettings

# `check_step` refuses others; so editors do.
Rate = Annotated[float, Field(json_schema_extra={"exclusiveMinimum": 0, "maximum": 1})]
DeviceCount = Annotated[int, Field(json_schema_extra={"minimum": 1})]
_Weight = Annotated[float, Field(json_schema_extra={"minimum": 0})]


class FinetuneSettings(Settings):
    """How an encoder is fine-tuned on labelled rows."""

    epochs: int = Field(
        3,
        ge=0,
        le=1000,
        description="Passes over the training rows; 0, of embed alone: the encoder as it is.",
    )
    learning_rate: Literal["auto"] | Rate = Field(
        "auto",
        description="Peak learning rate; auto: 2e-4 for encoders up to 384 wide, 1e-4 up to 512, "
        "5e-5 above.",
        examples=[2e-4],
    )
    batch_size: int | None = Field(
        None, ge=1, le=65536, description="Rows a batch; 32 where batch_tokens is not given."
    )
    batch_tokens: int | None = Field(
        None, ge=16, description="Tokens a batch at most, padding included, in place of batch_size."
    )
    accumulation_steps: int = Field(
        1,
        ge=1,
        le=65536,
        description="Micro-batches that each batch is cut into; memory is that of one of them.",
    )
    recompute: bool = Field(
        False,
        description="Compute attention weights and activations again on the way back instead of "
        "keeping them: less memory, more time.",
    )
    max_length: int = Field(
        128,
        ge=4,
        le=100_000,
        description="Tokens a row is cut to, special tokens included; of the task tag the tokens "
        "of a window, and nothing is cut.",
    )
    warmup_share: float = Field(
        0.1, ge=0, le=1, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: float = Field(
        0.01, ge=0, lt=1, description="Decoupled weight decay; none on biases and norms."
    )
    clip_norm: float | None = Field(
        1.0, gt=0, description="Norm the gradient of all weights is clipped to; null: not clipped."
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Dropout before the head; null: the encoder's own."
    )
    class_weights: Literal["none", "balanced"] | dict[str, _Weight] = Field(
        "none",
        description="Weight of each class in the loss: balanced, or a number by label (others 1).",
        examples=["balanced", {"spam": 5.0}],
    )
    calibrate: bool = Field(
        True,
        description="Divide the logits by the temperature at which dev's scores are as high as "
        "its answers are right.",
    )
    few_labels: FewLabelsSettings | None = Field(
        None,
        description="How a classifier learns from a few rows a class: contrastive or prompt.",
        examples=[{"name": "contrastive"}],
    )
    adversarial: AdversarialSettings | None = Field(
        None,
        description="Train on word embeddings that are moved to where they hurt most.",
        examples=[{"name": "fgm", "epsilon": 0.05}],
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the processor multiplies it faster."
    )
    jit: Literal["auto"] | bool = Field(
        "auto",
        description="Compile the step with XLA; auto: no (rows differ in length, and each length "
        "would be compiled anew).",
    )
    monitor: Literal[("auto", *FIGURES)] = Field(
        "auto",
        description="Dev figure by which the best epoch is chosen and restored; auto: accuracy, "
        "micro_f1 where rows have several labels, spearman of numbers, f1 of entities and answers, "
        "recall_at_10 of vectors.",
    )
    patience: int | None = Field(
        3, ge=1, description="Epochs without a better dev figure before training stops; null: all."
    )
    min_delta: float = Field(
        0.0, ge=0, description="Only a dev figure better by more than this begins the wait anew."
    )
    regularize: RegularizeSettings = Field(
        default_factory=RegularizeSettings,
        description="What keeps the model from learning few rows by heart.",
    )
    watch: WatchSettings = Field(
        default_factory=WatchSettings, description="Where the training is watched."
    )
    devices: Literal["all"] | DeviceCount = Field(
        1,
        description="GPUs of this machine that share each batch; all: every one. With several "
        "workers (TF_CONFIG) each uses all it sees.",
        examples=["all", 4],
    )
    worker_timeout_seconds: float = Field(
        300, gt=0, description="Time to wait for the other workers that TF_CONFIG names."
    )
    checkpoint_seconds: float = Field(
        60, gt=0, description="Time between checkpoints that an interrupted run continues from."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_few_labels(cls, values: Any) -> Any:
        """Where the config does not say how long and how fast, the method does."""
        try:
            defaults = dict(METHODS[values["few_labels"]["name"]].defaults)
        except (KeyError, TypeError, AttributeError):
            return values
        if values.get("batch_tokens") is not None:
            del defaults["batch_size"]
        return {**defaults, **values}

    @model_validator(mode="after")
    def _one_kind_of_batch(self) -> FinetuneSettings:
        if self.batch_size is not None and self.batch_tokens is not None:
            raise ValueError("give batch_size or batch_tokens, not both")
        check_step(self)
        if isinstance(self.class_weights, dict) and min(self.class_weights.values(), default=0) < 0:
            raise ValueError(f"class_weights must not be negative; received {self.class_weights}")
        self.regularize.check(epochs=self.epochs, class_weights=self.class_weights)
        return self

    def resolve(self, *, hidden_size: int, task: str = "classify") -> FinetuneSettings:
        """Replace each `auto` by what it means on this machine, for this encoder and this task.

        Args:
            hidden_size: the encoder's width D.
            task: one of `tasks.TASKS`.
        """
        rate = self.learning_rate
        if rate == "auto":
            rate = 2e-4 if hidden_size <= 384 else 1e-4 if hidden_size <= 512 else 5e-5
        precision = self.precision
        if precision == "auto":
            precision = "bfloat16" if fast_bfloat16() else "float32"
        return self.model_copy(
            update={
                "learning_rate": rate,
                "precision": precision,
                "jit": False if self.jit == "auto" else self.jit,
                "monitor": TASKS[task].figures[0] if self.monitor == "auto" else self.monitor,
                "batch_size": self.batch_size or (None if self.batch_tokens else 32),
            }
        )


def check_step(settings: Settings) -> None:
    """Check what the settings of every training have of its step and devices.

    Raises:
        ValueError: a value is out of range, or two do not go together.
    """
    if settings.devices != "all" and settings.devices < 1:
        raise ValueError(f"devices must be 1 or more, or all; received {settings.devices}")
    if settings.jit is True and settings.accumulation_steps > 1:
        raise ValueError("accumulation_steps above 1 must have jit: false")
    if isinstance(settings.learning_rate, float) and not 0 < settings.learning_rate <= 1:
        raise ValueError(f"learning_rate must be in (0, 1]; received {settings.learning_rate}")


def fast_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 faster than float32.

    True for processors with AVX512-BF16 or AMX (oneDNN uses both), and for GPUs from compute
    capability 8.
    """
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        capability = tf.config.experimental.get_device_details(gpu).get("compute_capability")
        return capability is not None and capability >= (8, 0)
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags.split())
