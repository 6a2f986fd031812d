"""The scripts a user copies run as they stand."""

import pathlib
import re
import runpy

import pytest

ROOT = pathlib.Path(__file__).parents[1]
WORDS = "what a lovely film waste of two hours i could watch it again tomorrow . , ##s".split()


@pytest.fixture
def tiny_default_encoder(tmp_path, monkeypatch):
    """A two-layer encoder in the place of the one that would be fetched."""
    import tfmodel as tm
    from tfmodel.model import save_encoder

    vocabulary = tm.Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])
    shape = tm.BertConfig(
        vocabulary_size=len(vocabulary), hidden_size=16, layers=2, heads=2, intermediate_size=32
    )
    folder = tmp_path / "encoder"
    save_encoder(tm.build_encoder(shape), folder, tokenizer=tm.Tokenizer(vocabulary))
    monkeypatch.setattr(tm, "DEFAULT_ENCODER", str(folder), raising=False)
    monkeypatch.chdir(tmp_path)


def check_answer(printed: str):
    answer = re.search(r"'label': '(bad|good)'", printed)
    assert answer, printed


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_example_runs(script, tiny_default_encoder, capfd):
    runpy.run_path(str(script), run_name="__main__")
    check_answer(capfd.readouterr().out)


def test_readme_script_runs(tiny_default_encoder, capfd):
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    exec(compile(script, "README.md", "exec"), {})
    check_answer(capfd.readouterr().out)
