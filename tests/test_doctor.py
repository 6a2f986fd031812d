"""`tfmodel doctor` says what a run here will use."""

import tfmodel as package


def test_what_will_be_used(tfmodel, tmp_path, monkeypatch):
    monkeypatch.setenv("TFMODEL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/wheel").write_bytes(b"x" * 3_000_000)
    done = tfmodel("doctor")
    assert done.code == 0, done.err
    found = dict(line.split(maxsplit=1) for line in done.out.replace(" auto ", "_ ").splitlines())
    assert found["python"].startswith("3.")
    assert found["tensorflow"].startswith("2.")
    assert found["train.precision_"] in ("float32", "bfloat16")
    assert found["train.jit_"] in ("true", "false")
    assert found["cache"] == f"{tmp_path / 'cache'} (3 MB)"
    for extra in ("vocabulary", "privacy", "chinese", "beam"):
        assert extra in found["for"]  # pretraining, installed or not
    assert "GB" in found["memory"] and "GB free of" in done.out and "GPUs" in found
    assert package.DEFAULT_ENCODER.startswith(done.out.split("default encoder")[1].strip())
    assert "[" not in done.out and "None" not in done.out


def test_a_cache_that_is_not_there_yet(tfmodel, tmp_path, monkeypatch):
    monkeypatch.setenv("TFMODEL_CACHE", str(tmp_path / "none"))
    assert "none (empty)" in tfmodel("doctor").out
    assert not (tmp_path / "none").exists()
