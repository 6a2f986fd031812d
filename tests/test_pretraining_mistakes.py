"""What a user of `tfmodel pretrain` may get wrong, and what may fail: one message, what to do.

Run: pytest tests/test_pretraining_mistakes.py
"""

import json
import shutil
import sys
from pathlib import Path

import needs
import pytest
import small_pretraining
import small_run
from test_mistakes import small_disk, told

RUN = Path("runs/words")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a corpus, a vocabulary and `words.yaml`, as the current one."""
    monkeypatch.chdir(tmp_path)
    small_pretraining.write_corpus(Path("texts.jsonl"), small_pretraining.documents())
    small_pretraining.write_vocabulary(Path("vocab.txt"))
    Path("words.yaml").write_text(small_pretraining.CONFIG)
    return tmp_path


@pytest.fixture
def pretrain(place, tfmodel):
    """`tfmodel pretrain words.yaml` with overrides."""
    return lambda *overrides: tfmodel("pretrain", "words.yaml", *overrides)


# --- the config ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (
            ["encoder=x"],
            ["expected model, for a new encoder, or encoder", "Received: both, model tiny"],
        ),
        (["model=null"], ["expected model", "Received: neither. Add for example model: mini"]),
        (
            ["model=null", "encoder=x"],
            ["expected no vocabulary beside encoder", "Remove vocabulary"],
        ),
        (["model=minni"], ["expected one of tiny, mini, small, medium, base", "mean mini?"]),
        (["corpus.trian=x"], ["unknown key corpus.trian. Did you mean corpus.train?"]),
        (["corpsu.train=x"], ["unknown key corpsu. Did you mean corpus?"]),
        (["train.epochs=3"], ["unknown key train.epochs", "steps, seconds"]),
        (["train.seconds=60"], ["give steps or seconds, not both"]),
        (["objective.name=mlmm"], ["expected one of mlm, nsp", "Did you mean mlm?"]),
        (
            ["objective={name: simcse, mask_rate: 0.1}"],
            ["unknown key objective.mask_rate: simcse has no such key"],
        ),
        (["objective.name=xyz"], ['Received: "xyz". Change it.']),
        (
            ["objective.name=simcse", "train.batch_size=8", "train.accumulation_steps=8"],
            ["at least 2 of them", "Lower train.accumulation_steps"],
        ),
        (
            ["objective.name=simcse", "train.dropout=0"],
            ["under another dropout", "Leave it out"],
        ),
        (["objective.mask_rate=2"], ["objective.mask_rate: expected a value greater than 0"]),
        (["vocabulary={sise: 500}"], ["unknown key vocabulary.sise", "mean vocabulary.size?"]),
        (
            ["data.train=rows.csv"],
            ["supervised run (data, task)", "both data and corpus", "Remove the keys"],
        ),
    ],
    ids=lambda value: value[0] if "=" in value[0] else "",
)
def test_a_config_that_cannot_be_meant(overrides, parts, pretrain):
    told(pretrain(*overrides), *parts)
    assert not Path("runs").exists()


def test_a_missing_trainer_is_named_before_any_work(pretrain, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    told(pretrain("vocabulary={size: 500}"), "pip install 'tfmodel[vocabulary]'")
    assert not (RUN / "corpus").exists()


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_a_stage_before_the_training(command, place, tfmodel):
    told(
        tfmodel(command, "words.yaml"),
        f"{command} needs the stage pretrain done with this config",
        "Type: tfmodel pretrain words.yaml",
    )


@pytest.mark.parametrize("command", ["data", "finetune"])
def test_a_stage_of_the_other_kind(command, place, tfmodel):
    told(
        tfmodel(command, "words.yaml"),
        f"{command}: expected the config of a supervised run. Received: words.yaml, which has",
        "Type: tfmodel run words.yaml",
    )


def test_a_supervised_config_is_not_pretrained(place, tfmodel):
    Path("small.yaml").write_text(small_run.CONFIG)
    told(
        tfmodel("pretrain", "small.yaml"),
        "pretrain: expected the config of a pretraining run",
        "Type: tfmodel run small.yaml",
    )


# --- the corpus and the vocabulary --------------------------------------------------------


def test_no_text(pretrain):
    Path("empty.jsonl").write_text("")
    told(pretrain("corpus.train=empty.jsonl"), "empty.jsonl", "Received: an empty file")
    small_pretraining.write_corpus(Path("short.jsonl"), ["hi", "ho"])
    told(
        pretrain("corpus.train=short.jsonl"),
        "expected documents of text. Received: 2 documents, all left out (2 too_short)",
    )
    told(pretrain("corpus.train=text.jsonl"), "Did you mean ", "texts.jsonl?")
    assert not (RUN / "corpus").exists()
    # Set right, the same folder goes on.
    done = pretrain("train.steps=1")
    assert done.code == 0, done.err


def test_a_vocabulary_larger_than_the_corpus_supports(pretrain):
    needs.package("tokenizers")
    done = pretrain("vocabulary={size: 5000}")
    told(done, "vocabulary.size: expected ", "which is what the corpus supports", "5000")
    assert (RUN / "corpus").exists() and not (RUN / "vocabulary").exists()


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["vocab.txt: expected a file or folder"]),
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", ["expected one with [MASK]", "5 pieces without it"]),
        ("a\nb\n", ["expected a BERT WordPiece vocabulary", "2 pieces without [PAD]"]),
    ],
)
def test_a_vocabulary_that_is_none(content, parts, pretrain):
    Path("vocab.txt").unlink()
    if content is not None:
        Path("vocab.txt").write_text(content)
    told(pretrain(), *parts)
    assert not (RUN / "corpus").exists()


# --- the encoder and the folder -----------------------------------------------------------


def test_rows_longer_than_the_encoder_has_positions(place, pretrain):
    small_run.write_encoder(Path("encoder"))
    given = ["model=null", "vocabulary=null", "encoder=encoder"]
    told(
        pretrain(*given, "train.max_length=64"),
        "train.max_length must be at most 48, the longest row of encoder. Received: 64",
    )
    assert not (RUN / "corpus").exists()  # it is seen before any work


def test_a_head_that_is_not_tied(place, pretrain):
    import numpy as np
    from safetensors.numpy import load_file, save_file

    import tfmodel as tm
    from tfmodel.tasks import fill

    small_run.write_encoder(Path("alone"))
    tokenizer = tm.Tokenizer.from_folder("alone")
    fill.save(fill.build(tm.load_encoder("alone")), "encoder", tokenizer=tokenizer)
    tensors = load_file("encoder/model.safetensors")
    table = tensors["bert.embeddings.word_embeddings.weight"]
    save_file(
        tensors | {"cls.predictions.decoder.weight": np.zeros_like(table)},
        "encoder/model.safetensors",
    )
    given = ["model=null", "vocabulary=null", "encoder=encoder"]
    for objective in ("mlm", "sop"):
        done = pretrain(*given, f"objective.name={objective}")
        told(
            done,
            "cls.predictions.decoder.weight: another than the token table",
            "a new head",
        )
    assert not (RUN / "corpus").exists()
    eval(done.err[done.err.index("tm.save_encoder") :], {"tm": tm})  # what the message says
    fill.check_head("encoder-alone")


def test_more_logits_than_can_be_counted(pretrain):
    large = ["train.batch_size=65536", "train.max_length=4096", "objective.mask_rate=0.5"]
    pieces = len(Path("vocab.txt").read_text().split("\n")) - 1
    told(
        pretrain(*large),
        "expected fewer than 2^31 (2,147,483,648) logits at a time. Received: 65,536 rows x 2,047 ",
        f"x {pieces} pieces = {65536 * 2047 * pieces:,}. Set train.accumulation_steps so that a ",
        f"at most {2**31 // (2047 * pieces):,} rows, which changes no result",
    )
    assert not (RUN / "corpus").exists()


def test_the_folder_of_another_kind_of_run(workspace, tfmodel):
    small_pretraining.write_corpus(Path("texts.jsonl"), small_pretraining.documents())
    small_pretraining.write_vocabulary(Path("vocab.txt"))
    Path("words.yaml").write_text(small_pretraining.CONFIG)
    before = Path("runs/small/model/model.safetensors").read_bytes()
    for options in ([], ["--restart"]):
        told(
            tfmodel("pretrain", "words.yaml", "run=runs/small", *options),
            "expected the folder of a pretraining run, or a new one",
            "that of a supervised run. Set run: to another folder",
        )
    assert Path("runs/small/model/model.safetensors").read_bytes() == before


def test_a_corpus_folder_of_the_users_own(place, pretrain):
    Path("corpus").mkdir()
    shutil.move("texts.jsonl", "corpus/texts.jsonl")
    refused = pretrain("run=.", "corpus.train=corpus/texts.jsonl")
    told(refused, "Received: one with corpus, which no run made and this one would replace")
    assert json.loads(Path("corpus/texts.jsonl").read_text().splitlines()[0])["text"]


# --- failures of the work -----------------------------------------------------------------


@pytest.mark.parametrize(("kilobytes", "made"), [(12, []), (700, ["corpus", "tokens"])])
def test_a_full_disk(kilobytes, made, place, tfmodel):
    small_pretraining.write_corpus(Path("texts.jsonl"), small_pretraining.documents(400))
    with small_disk(Path("disk"), kilobytes):
        done = tfmodel("pretrain", "words.yaml", "run=disk/run")
        told(done, "No space left on device", code=1)
        assert all(Path("disk/run", name).exists() for name in made)
        assert not list(Path("disk").rglob(".*partial*"))


def test_a_loss_that_is_no_number(place, pretrain, monkeypatch):
    from tfmodel.tasks import fill

    sums = fill.sums
    with monkeypatch.context() as patch:
        patch.setattr(fill, "sums", lambda *a, **k: [term * float("nan") for term in sums(*a, **k)])
        # So that no checkpoint is written meanwhile, however slow the machine: nothing is lost.
        done = pretrain("train.checkpoint_seconds=100000")
        told(done, "The loss is nan at step 1", "Lower train.learning_rate", code=1)
    assert not (RUN / "model").exists()
    done = pretrain("train.learning_rate=1e-4")
    assert done.code == 0, done.err
