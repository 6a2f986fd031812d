"""The config key `export`: what to write, for whom, and what it may lose."""

from __future__ import annotations

from typing import Literal, get_args

import pydantic
from pydantic import Field

from tfmodel.config import ConfigError, Settings

SavedModelPrecision = Literal["float32", "mixed_bfloat16"]
TfliteVariant = Literal["float32", "float16", "int8", "int8_weights", "int8_full"]
TfliteLength = Literal["fixed", "dynamic"]
PhoneRuntime = Literal["auto", "task-library-0.4", "mediapipe", "litert"]

TFLITE_VARIANTS = get_args(TfliteVariant)
PHONE_RUNTIMES = get_args(PhoneRuntime)


class FillExportSettings(Settings):
    """What to export of a model that fills gaps (config key `export` of a pretraining run)."""

    savedmodel: bool = Field(True, description="Write a SavedModel for TF Serving.")
    tflite: list[Literal["float32", "float16", "int8", "int8_weights"]] = Field(
        ["float32", "float16", "int8"],
        description="TFLite files to write: float32, float16 (half the size), int8 (a quarter, "
        "dynamic range), int8_weights (a quarter, computed with in float32).",
        examples=[["float32", "int8"]],
    )
    top: int = Field(5, ge=1, le=1000, description="Answers for each [MASK].")
    max_length: int | None = Field(
        None,
        ge=4,
        le=100_000,
        description="Tokens a text at most in the artifacts; train.max_length where not given.",
    )
    max_drop: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of hidden tokens that an artifact of reduced precision may miss more; "
        "0.01 is a point.",
    )

    def written(self) -> ExportSettings:
        """What `export_all` is told."""
        return ExportSettings(**self.model_dump(exclude={"top"}))


class ExportSettings(Settings):
    """What to export (config key `export`)."""

    savedmodel: bool = Field(True, description="Write a SavedModel for TF Serving.")
    savedmodel_precision: list[SavedModelPrecision] = Field(
        ["float32"],
        min_length=1,
        description="Number formats of SavedModels; mixed_bfloat16 halves the size, and the time "
        "where the server's processor has AVX512-BF16 or AMX.",
        examples=[["float32", "mixed_bfloat16"]],
    )
    tflite: list[TfliteVariant] = Field(
        ["float32", "float16", "int8"],
        description="TFLite files to write: float32, float16 (half the size), int8 (a quarter, "
        "dynamic range), int8_weights (a quarter, computed with in float32), int8_full (a "
        "quarter, calibrated on real rows).",
        examples=[["float32", "int8"]],
    )
    tflite_length: list[TfliteLength] = Field(
        ["fixed"],
        min_length=1,
        description="Rows of TFLite files: fixed (always max_length), dynamic (as long as the "
        "text: faster on short ones).",
        examples=[["fixed", "dynamic"]],
    )
    tflite_vector: bool = Field(
        False, description="Write TFLite files that give the sentence vector, too."
    )
    runtime: PhoneRuntime = Field(
        "auto",
        description="What TFLite files must run in; each takes what those before it take: "
        "task-library-0.4, mediapipe, litert. auto: the first that the model can satisfy.",
    )
    calibration_rows: int = Field(
        100, ge=1, le=10_000, description="Train rows that int8_full is calibrated on."
    )
    keras_hub: bool = Field(False, description="Write a KerasHub preset.")
    onnx: bool = Field(False, description="Write an ONNX file, the tokenizer beside it.")
    max_length: int | None = Field(
        None,
        ge=4,
        le=100_000,
        description="Tokens a row at most in the artifacts; train.max_length where not given.",
    )
    max_drop: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Accuracy (with several labels micro F1, of numbers Spearman's correlation) "
        "that an artifact of reduced precision may lose; 0.01 is a point.",
    )

    @pydantic.field_validator("savedmodel_precision", "tflite", "tflite_length")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        return list(dict.fromkeys(names))

    def check_family(self, family: str, tokenizer: str = "wordpiece") -> None:
        """Refuse what cannot be written of an encoder of a family.

        Args:
            family: the `model_type` of its `config.json`.
            tokenizer: of which kind its tokenizer is.

        Raises:
            ConfigError: something is asked for that there is for others alone.
        """
        if self.keras_hub and (family != "bert" or tokenizer != "wordpiece"):
            pieces = "" if tokenizer == "wordpiece" else f" with {tokenizer}"
            raise ConfigError(
                "export.keras_hub: expected an encoder of model_type bert, and WordPiece, for the "
                f"preset is one of KerasHub's BERT. Received: model_type {family}{pieces}. Leave "
                "it out: export.keras_hub=false."
            )
