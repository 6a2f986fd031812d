"""What a runtime cannot do is refused before anything is converted, and found in the file after."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import small_families

from tfmodel.config import ConfigError
from tfmodel.export import export_tflite, tflite
from tfmodel.export.settings import PHONE_RUNTIMES
from tfmodel.export.tflite import phone_runtimes
from tfmodel.export.tflite.phone_runtimes import RUNTIMES, check_operations, choose_runtime
from tfmodel.export.tflite.variants import ConversionError
from tfmodel.export.trained import Trained
from tfmodel.tokens import Tokenizer


def _trained(tiny, **changes) -> Trained:
    return dataclasses.replace(Trained(tiny.model, tiny.tokenizer, **tiny.described), **changes)


def test_every_runtime_of_the_settings_is_known():
    assert ("auto", *RUNTIMES) == PHONE_RUNTIMES


def test_auto_is_the_oldest_runtime_that_the_model_can_satisfy(tiny):
    assert choose_runtime("auto", _trained(tiny)) == "task-library-0.4"
    assert choose_runtime("auto", _trained(tiny, has_pairs=True)) == "litert"
    assert choose_runtime("mediapipe", _trained(tiny)) == "mediapipe"


@pytest.mark.parametrize("runtime", ["task-library-0.4", "mediapipe"])
def test_pairs_are_refused_for_runtimes_that_tokenize_one_text(
    tiny_pairs, tmp_path, monkeypatch, runtime
):
    monkeypatch.setattr(tflite, "convert", lambda *args, **kwargs: pytest.fail("converted"))
    with pytest.raises(ConfigError, match=f"runtime={runtime}: .*no place for a second.*litert"):
        export_tflite(
            tiny_pairs.model,
            tiny_pairs.tokenizer,
            tmp_path / "a.tflite",
            runtime=runtime,
            **tiny_pairs.described,
        )


@pytest.mark.parametrize("runtime", ["task-library-0.4", "mediapipe"])
def test_runtimes_that_tokenize_have_word_pieces_alone(tiny, runtime):
    trained = _trained(tiny, tokenizer=small_families.tokenizer_of("roberta"))
    assert choose_runtime("auto", trained) == "litert"
    message = rf"runtime={runtime}: expected a WordPiece tokenizer.*byte_pairs. Set .*=litert"
    with pytest.raises(ConfigError, match=message):
        choose_runtime(runtime, trained)


def test_an_unknown_runtime_lists_the_known(tiny):
    with pytest.raises(ConfigError, match="one of auto, task-library-0.4, .*Received: 'coreml'"):
        choose_runtime("coreml", _trained(tiny))


def test_a_cased_vocabulary_is_warned_of_where_the_runtime_lowers_case(tiny, caplog):
    cased = Tokenizer(tiny.tokenizer.vocabulary, lowercase=False, max_length=16)
    trained = _trained(tiny, tokenizer=cased)
    with caplog.at_level(logging.WARNING):
        assert choose_runtime("litert", trained) == "litert"
        assert not caplog.records
        assert choose_runtime("auto", trained) == "task-library-0.4"
    assert "capitals are lost on the phone" in caplog.text


def test_an_operation_too_new_for_the_runtime_is_named_with_its_layer(exported, monkeypatch):
    content = (exported / "tflite/int8.tflite").read_bytes()
    for runtime in RUNTIMES:
        check_operations(content, runtime)
    older = {**RUNTIMES["mediapipe"].operations, "FULLY_CONNECTED": 8}
    changed = dataclasses.replace(RUNTIMES["mediapipe"], operations=older)
    monkeypatch.setitem(phone_runtimes.RUNTIMES, "mediapipe", changed)
    message = "FULLY_CONNECTED up to version 8, .*Received: FULLY_CONNECTED version 9 in query_key"
    with pytest.raises(ConversionError, match=message):
        check_operations(content, "mediapipe")


@pytest.mark.slow
def test_scales_for_each_column_are_for_newer_runtimes(tiny, tmp_path):
    path = export_tflite(
        tiny.model,
        tiny.tokenizer,
        tmp_path / "a.tflite",
        quantization="int8",
        runtime="mediapipe",
        **tiny.described,
    )
    with pytest.raises(ConversionError, match="FULLY_CONNECTED version 12"):
        check_operations(path.read_bytes(), "task-library-0.4")
