"""The guides: their commands parse, their keys exist, their links lead somewhere.

`docs/data.md` is followed word by word: what stands after `<!-- test -->` is run, in order, in an
empty folder. The other guides train, which takes too long here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import needs
import pydantic
import pytest
import yaml

import tfmodel
from tfmodel.cli import _parser
from tfmodel.config.wording import known_fields
from tfmodel.data.augmentation import AugmentSettings
from tfmodel.data.corpus.settings import CorpusSettings, DocumentCleaningSettings, LineSettings
from tfmodel.data.label_noise import LabelNoiseSettings
from tfmodel.data.privacy.settings import PrivacySettings
from tfmodel.data.settings import CleaningSettings, DataSettings, SpanSettings
from tfmodel.export.settings import ExportSettings, FillExportSettings
from tfmodel.kinds import (
    KINDS,
    PretrainingSettings,
    RunSettings,
    SeveralSettings,
    TaskSettings,
    load_run_config,
)
from tfmodel.kinds.several import OwnTrainSettings, TaskOfSeveral
from tfmodel.tokens.mixing import MixingSettings
from tfmodel.tokens.vocabulary_training import VocabularySettings
from tfmodel.train.adversarial.settings import AdversarialSettings
from tfmodel.train.few_labels.settings import ContrastiveSettings, PromptSettings
from tfmodel.train.pretrain_settings import PretrainSettings
from tfmodel.train.regularize.settings import (
    AveragingSettings,
    DropoutSettings,
    PlateauSettings,
    RegularizeSettings,
    SWASettings,
)
from tfmodel.train.settings import FinetuneSettings
from tfmodel.train.watch.settings import MlflowSettings, WandbSettings, WatchSettings

ROOT = Path(__file__).parents[1]
GUIDES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "LOG.md")
PAGES = [*GUIDES, *(path for path in [ROOT / "README.md"] if path.exists())]
LINKED = [*PAGES, *(path for path in [ROOT / "docs" / "LOG.md"] if path.exists())]
KEYS = {".".join(path): field for kind in KINDS for path, field in known_fields(kind.settings)}
# Every key of a section stands in the table of its guide.
TABLES = [
    ("data", DataSettings, "data.md"),
    ("data.cleaning", CleaningSettings, "data.md"),
    ("data.augment", AugmentSettings, "data.md"),
    ("data.spans", SpanSettings, "data.md"),
    ("data.label_noise", LabelNoiseSettings, "data.md"),
    ("train", FinetuneSettings, "training.md"),
    ("train.adversarial", AdversarialSettings, "adversarial.md"),
    ("train.regularize", RegularizeSettings, "regularization.md"),
    ("train.regularize.dropout", DropoutSettings, "regularization.md"),
    ("train.regularize.moving_average", AveragingSettings, "regularization.md"),
    ("train.regularize.swa", SWASettings, "regularization.md"),
    ("train.regularize.plateau", PlateauSettings, "regularization.md"),
    ("train.watch", WatchSettings, "tensorboard.md"),
    ("train.watch.wandb", WandbSettings, "tensorboard.md"),
    ("train.watch.mlflow", MlflowSettings, "tensorboard.md"),
    ("export", ExportSettings, "export.md"),
    ("task", TaskSettings, "config.md"),
    ("", RunSettings, "config.md"),
    ("", PretrainingSettings, "pretraining.md"),
    ("export", FillExportSettings, "pretraining.md"),
    ("", SeveralSettings, "several.md"),
    ("tasks.NAME", TaskOfSeveral, "several.md"),
    ("tasks.NAME.train", OwnTrainSettings, "several.md"),
    ("mixing", MixingSettings, "several.md"),
    ("corpus", CorpusSettings, "pretraining.md"),
    ("corpus.cleaning", DocumentCleaningSettings, "pretraining.md"),
    ("corpus.lines", LineSettings, "pretraining.md"),
    ("corpus.privacy", PrivacySettings, "pretraining.md"),
    ("vocabulary", VocabularySettings, "pretraining.md"),
    ("train", PretrainSettings, "pretraining.md"),
]
IN_WORDS = {"required", "none", "see there", "see below", "MiniLM"}


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page that say one of these languages (or, for "", none)."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M)
    return [block for language, block in found if language in languages]


def without_scripts(block: str) -> str:
    """Shell lines without the Python that stands between them."""
    return re.sub(r"<<'END'\n.*?\nEND$", "", block, flags=re.S | re.M)


def commands(text: str) -> list[list[str]]:
    """The arguments of each `tfmodel` command in shell lines."""
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, "#"
        current: list[str] | None = None
        starts = True  # of a command: at the line's start and after ; | &&
        words = iter(lexer)
        for word in words:
            if set(word) <= set(";|&"):
                current, starts = None, True
            elif set(word) <= set("<>"):
                next(words)  # the file
            elif current is not None:
                current.append(word)
            elif starts and re.fullmatch(r"\w+=\S*", word):
                continue  # NAME=value before the command
            else:
                if starts and word == "tfmodel":
                    current = []
                    found.append(current)
                starts = False
    return found


def typed_commands() -> list:
    """What a reader may type, with the page it stands on."""
    found = []
    for page in PAGES:
        shell = [without_scripts(block) for block in blocks(page, "", "bash")]
        # `tfmodel run` alone names the command; with more behind it, it is one to type.
        inline = re.findall(r"`(tfmodel [^`\s]+ [^`…]+)`", page.read_text("utf-8"))
        for text in [*shell, *inline]:
            if re.search(r"^tfmodel: ", text, re.M):  # what a command says, not what one types
                continue
            for words in commands(text):
                found.append(pytest.param(words, id=f"{page.name}: {' '.join(words)[:60]}"))
    return found


@pytest.mark.parametrize("words", typed_commands())
def test_command_parses(words):
    try:
        options = _parser().parse_args(words)
    except SystemExit as error:
        assert error.code == 0, words  # --help and --version end so
        return
    for override in getattr(options, "overrides", []):
        key = override.partition("=")[0]
        assert key in KEYS, f"there is no key {key}"
    config = str(getattr(options, "config", ""))
    if config.startswith("configs/"):
        assert (ROOT / config).exists()


def test_commands_are_found():
    line = "A=1 tfmodel run c.yaml 'data.columns=[a, b]' > log && echo tfmodel | tfmodel doctor # x"
    assert commands(line) == [["run", "c.yaml", "data.columns=[a, b]"], ["doctor"]]
    assert len(typed_commands()) > 30


# --- keys -----------------------------------------------------------------------------------


def documented(page: Path) -> dict[str, str]:
    """Keys and defaults in the tables of a page whose first column is `Key`."""
    found = {}
    for table in re.findall(r"^\| Key \|.*?(?=^$|\Z)", page.read_text("utf-8"), re.S | re.M):
        for line in table.splitlines()[2:]:
            key, default = line.split(" | ")[:2]
            found[key.removeprefix("| ").strip("`")] = default.strip("`")
    return found


@pytest.mark.parametrize(("section", "model", "page"), TABLES)
def test_table_has_every_key_with_its_default(section, model, page):
    prefix = f"{section}." if section else ""
    table = documented(ROOT / "docs" / page)
    names = {key.removeprefix(prefix) for key in table if key.startswith(prefix)}
    assert {name for name in names if "." not in name} == set(model.model_fields)
    for name, field in model.model_fields.items():
        shown = table[prefix + name]
        if field.is_required():
            assert shown == "required"
        elif field.default is None and field.default_factory is None:
            assert shown == "none", name
        elif shown not in IN_WORDS or isinstance(field.default, str):
            default = field.get_default(call_default_factory=True)
            if isinstance(default, pydantic.BaseModel):
                default = default.model_dump(mode="json")
            assert shown == "MiniLM" or yaml.safe_load(shown) == default, name


def test_one_table_has_the_keys_of_all_ways_to_learn_from_few_labels():
    table = documented(ROOT / "docs" / "tasks.md")
    prefix = "train.few_labels."
    shown = {key.removeprefix(prefix) for key in table if key.startswith(prefix)}
    assert shown == {*ContrastiveSettings.model_fields, *PromptSettings.model_fields}
    for name, field in (*ContrastiveSettings.model_fields.items(),):
        if not field.is_required():
            assert yaml.safe_load(table[prefix + name]) == field.default


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_keys_in_tables_exist(page):
    assert set(documented(page)) <= set(KEYS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_in_sentences_exist(page):
    sections = "|".join({key.partition(".")[0] for key in KEYS if "." in key})
    for key in re.findall(rf"`((?:{sections})\.[a-z_.]+)(?:=[^`]*)?`", page.read_text("utf-8")):
        assert key in KEYS or key.endswith((".csv", ".tsv", ".yaml")), key


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_yaml_examples_load(page):
    for block in blocks(page, "yaml"):
        values = {"run": "runs/x", **yaml.safe_load(block)}
        own = {"corpus", "vocabulary", "model", "objective"} & {*values}
        missing = {"corpus": {"train": "x"}} if own else {"data": {"train": "x.csv"}}
        if "tasks" in values:
            missing = {}
        if own and "encoder" not in values:
            missing["model"] = "mini"
        load_run_config(missing | values)


# --- data sets, scripts, links ----------------------------------------------------------------


def test_guide_says_where_each_file_of_a_config_comes_from():
    for config in (ROOT / "configs").glob("*.yaml"):
        page = "pretraining.md" if config.name.startswith("pretrain_") else "data.md"
        guide = (ROOT / "docs" / page).read_text("utf-8")
        assert f"`{config.name}`" in guide
        for path in re.findall(r"\$\{TFMODEL_DATA\}/(\S+)", config.read_text("utf-8")):
            assert f"`{path}`" in guide, f"{config.name} reads {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles(page):
    scripts = blocks(page, "python")
    for shell in blocks(page, "bash"):
        scripts += re.findall(r"<<'END'\n(.*?\n)END$", shell, re.S | re.M)
    for script in scripts:
        compile(script, page.name, "exec")
        if "import tfmodel as tm" in script:
            assert set(re.findall(r"\btm\.(\w+)", script)) <= set(tfmodel.__all__)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, link


# --- the data guide, followed -------------------------------------------------------------------


def test_data_guide_can_be_followed(tmp_path, monkeypatch, tfmodel, capsys):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    marked = re.findall(r"<!-- test -->\n```(\w+)\n(.*?)^```$", page, re.S | re.M)
    assert len(marked) >= 9 and {language for language, _ in marked} == {"bash", "python"}
    said = ""
    for language, block in marked:
        if language == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(compile(block, "data.md", "exec"), {})
            continue
        for script in re.findall(r"<<'END'\n(.*?\n)END$", block, re.S | re.M):
            subprocess.run([sys.executable, "-c", script], check=True, env=dict(os.environ))
        for words in commands(without_scripts(block)):
            done = tfmodel(*words)
            assert done.code == 0, done.err
            said += done.err
    for shown in blocks(ROOT / "docs" / "data.md", ""):
        assert shown in said
    dropped = Path("runs/messy/data/dropped.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["reason"] for line in dropped} < set(re.findall(r"`(\w+)`", page))
    for part in Path("runs").iterdir():
        account = json.loads((part / "data" / "account.json").read_text("utf-8"))
        assert {name: split["rows"] for name, split in account["splits"].items()} == {
            "train": 56, "dev": 8, "test": 16,
        }  # fmt: skip
    assert "['bad', 'good']" in capsys.readouterr().out


# --- the pretraining guide, followed --------------------------------------------------------


@pytest.mark.slow
def test_pretraining_guide_can_be_followed(tmp_path, monkeypatch, tfmodel):
    needs.package("tokenizers")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "pretraining.md").read_text("utf-8")
    marked = re.findall(r"<!-- test -->\n```(\w+)\n(.*?)^```$", page, re.S | re.M)
    assert [language for language, _ in marked] == ["bash", "bash", "bash", "bash"]
    for _, block in marked:
        for path, script in re.findall(r"^cat > (\S+) <<'YAML'\n(.*?\n)YAML$", block, re.S | re.M):
            Path(path).write_text(script)
        for script in re.findall(r"^python - <<'END'\n(.*?\n)END$", block, re.S | re.M):
            subprocess.run([sys.executable, "-c", script], check=True)
        for words in commands(without_scripts(block)):
            done = tfmodel(*words)
            assert done.code == 0, done.err
    for run in ("pages", "more", "reviews"):
        assert Path(f"runs/{run}/report.html").exists()
    filled = json.loads(done.out)["filled"]  # by the last block
    assert re.fullmatch(r"the old man \S+ in the garden\.", filled) and "[MASK]" not in filled
