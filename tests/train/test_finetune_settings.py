import io
import re
from pathlib import Path

import pytest

from tfmodel.config import ConfigError, load_config
from tfmodel.train import FinetuneSettings
from tfmodel.train.settings import fast_bfloat16


def load(**values):
    return load_config(values, FinetuneSettings)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": -1}, "epochs"),
        ({"learning_rate": 0.0}, r"learning_rate must be in \(0, 1\]; received 0.0"),
        ({"learning_rate": 2}, r"learning_rate must be in \(0, 1\]; received 2.0"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"batch_size": 8, "batch_tokens": 512}, "give batch_size or batch_tokens, not both"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_tokens": 3}, "batch_tokens"),
        ({"max_length": 3}, "max_length"),
        ({"warmup_share": 1.1}, "warmup_share"),
        ({"dropout": 1.0}, "dropout"),
        ({"class_weights": {"spam": -1.0}}, "class_weights must not be negative"),
        ({"class_weights": {"spam": float("inf")}}, "class_weights.spam: expected a finite"),
        ({"jit": True, "accumulation_steps": 2}, "accumulation_steps above 1 must have jit: false"),
        ({"class_weights": "some"}, "class_weights"),
        ({"precision": "float16"}, "precision"),
        ({"monitor": "bleu"}, "monitor"),
        ({"patience": 0}, "patience"),
        ({"checkpoint_seconds": 0}, "checkpoint_seconds"),
        ({"learning_rat": 0.1}, "learning_rat.*learning_rate"),
    ],
)
def test_a_value_out_of_range_is_named(values, message):
    with pytest.raises(ConfigError, match=message):
        load(**values)


def test_auto_is_resolved_by_width_and_by_machine():
    rates = {size: load().resolve(hidden_size=size).learning_rate for size in (128, 384, 512, 768)}
    assert rates == {128: 2e-4, 384: 2e-4, 512: 1e-4, 768: 5e-5}
    resolved = load().resolve(hidden_size=384)
    assert "auto" not in resolved.model_dump().values()
    assert resolved.batch_size == 32 and resolved.jit is False
    assert resolved.resolve(hidden_size=768) == resolved


def test_what_is_said_is_kept():
    said = load(learning_rate=1, batch_tokens=512, precision="float32", jit=True, monitor="loss")
    resolved = said.resolve(hidden_size=768)
    assert resolved == said
    assert (resolved.batch_size, resolved.learning_rate, resolved.jit) == (None, 1.0, True)


def test_auto_precision_on_this_machine():
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    has = bool({"avx512_bf16", "amx_bf16"} & set((flags[1] if flags else "").split()))
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        assert fast_bfloat16() is has
        expected = "bfloat16" if has else "float32"
        assert load().resolve(hidden_size=384).precision == expected


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor: 0\nflags\t\t: fpu avx512f avx512_bf16 sse\n", True),
        ("flags: fpu amx_bf16\n", True),
        ("flags: fpu avx2 avx512_bf16x\n", False),
        ("", False),
        (None, False),
    ],
)
def test_bfloat16_is_taken_where_the_processor_multiplies_it(monkeypatch, cpuinfo, expected):
    import tensorflow as tf

    def opened(path, *arguments, **keywords):
        assert path == "/proc/cpuinfo"
        if cpuinfo is None:
            raise FileNotFoundError(path)
        return io.StringIO(cpuinfo)

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr("builtins.open", opened)
    found = fast_bfloat16()
    monkeypatch.undo()
    assert found is expected


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), False), ((8, 0), True), (None, False)]
)
def test_bfloat16_is_taken_on_newer_gpus(monkeypatch, capability, expected):
    import tensorflow as tf

    details = {} if capability is None else {"compute_capability": capability}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    assert fast_bfloat16() is expected
