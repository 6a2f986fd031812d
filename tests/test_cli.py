"""The commands as one types them: help, predict in all its ways, exit codes.

Run: pytest tests/test_cli.py
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import small_run
import yaml

from tfmodel.config import _Loader as Loader

ROOT = Path(__file__).parents[1]
RUN = Path("runs/small")
SAVEDMODEL = RUN / "export/savedmodel"
COMMANDS = [
    "init", "run", "data", "finetune", "evaluate", "export", "corpus", "pretrain", "predict",
    "kit", "lint", "doctor", "schema",
]  # fmt: skip
TEXTS = ["shares and profit", "the team and a goal", "rain, then storm"]


def answers(done):
    assert done.code == 0, done.err
    # Only a newline ends an answer: a text may hold U+2028.
    return [json.loads(line) for line in done.out.split("\n") if line]


def start(*command, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *command], env=environment, **options)


# --- help ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_shows_an_example(command, tfmodel):
    done = tfmodel(*[command] * bool(command), "--help")
    assert done.code == 0
    usage, _, example = done.out.partition("example:\n  tfmodel ")
    assert "usage: tfmodel" in usage and example.startswith(command or "init train.csv")
    if command is None:
        assert all(f"    {name} " in usage for name in COMMANDS)


def test_help_waits_for_nothing_heavy():
    """The processor's time, which the load of the machine does not change as it does the clock."""
    code = (
        "import resource, sys\n"
        "from tfmodel.cli import main\n"
        "try: main(['predict', '--help'])\n"
        "except SystemExit: pass\n"
        "import tfmodel.pipeline\n"
        "heavy = {'tensorflow', 'keras', 'tensorflow_datasets', 'matplotlib'} & {*sys.modules}\n"
        "print(sorted(heavy), resource.getrusage(resource.RUSAGE_SELF).ru_utime)"
    )
    out, err = start("-c", code, text=True).communicate()
    heavy, _, seconds = out.splitlines()[-1].rpartition(" ")
    assert heavy == "[]" and float(seconds) < 1, out + err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["rnu"], "invalid choice: 'rnu'"),
        (["run"], "the following arguments are required: CONFIG"),
        (["run", "small.yaml", "--restrat"], "unrecognized arguments: --restrat"),
        (["doctor", "now"], "unrecognized arguments: now"),
        (["evaluate", "small.yaml", "--restart"], "unrecognized arguments: --restart"),
    ],
)
def test_arguments_that_are_none(arguments, words, tfmodel):
    done = tfmodel(*arguments)
    assert done.code == 2 and words in done.err and "usage: tfmodel" in done.err


def test_a_terminal_obeys_nothing_that_stands_in_data(tmp_path, tfmodel):
    path = tmp_path / "odd.csv"
    path.write_text("text,\x1b[2Jlabel\none,a\n")
    done = tfmodel("init", path)
    assert done.code == 2
    assert "\\x1b[2Jlabel" in done.err and "\x1b" not in done.err


def test_a_runtime_that_is_none_is_named_before_any_work(workspace, tfmodel):
    done = tfmodel("export", "small.yaml", "--runtime", "core-ml")
    assert done.code == 2
    assert "export.runtime" in done.err and "task-library-0.4, mediapipe, litert" in done.err


def test_version(tfmodel):
    import tfmodel as package

    assert tfmodel("--version").out == f"tfmodel {package.__version__}\n"


def test_settings_and_texts_may_stand_after_options(workspace, tfmodel):
    done = tfmodel("run", "small.yaml", "--verbose", "seed=-1")
    assert done.code == 2 and "seed: expected a value at least 0" in done.err
    assert len(answers(tfmodel("predict", RUN, "--verbose", *TEXTS))) == 3
    assert [a["text"] for a in answers(tfmodel("predict", RUN, "--", "-5", "rain"))] == [
        "-5", "rain",
    ]  # fmt: skip


def test_the_schema_takes_every_config(tfmodel):
    schema = json.loads(tfmodel("schema").out)
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    configs = sorted((ROOT / "configs").glob("*.yaml"))
    assert configs
    for path in configs:
        # Editors read YAML 1.2, as tfmodel does: 3e-4 is a number.
        validator.validate(yaml.load(path.read_text("utf-8"), Loader))
    wrong = {"run": "x", "data": {"train": "t.csv"}, "train": {"learning_rat": 1}}
    assert not validator.is_valid(wrong)
    described = schema["$defs"]["FinetuneSettings"]["properties"]
    assert all(entry.get("description") for entry in described.values())


# --- predict ------------------------------------------------------------------------------


def test_every_kind_of_artifact_answers_alike(workspace, tfmodel):
    kinds = [RUN, RUN / "model", SAVEDMODEL, SAVEDMODEL / "1", RUN / "export/tflite/int8.tflite"]
    found = [answers(tfmodel("predict", where, *TEXTS)) for where in kinds]
    for each in found:
        assert [answer["text"] for answer in each] == TEXTS
        assert [answer["label"] for answer in each] == ["business", "sport", "weather"]
        for answer in each:
            assert list(answer) == ["text", "label", "score", "scores"]
            assert list(answer["scores"]) == list(small_run.TOPICS)
            assert answer["score"] == max(answer["scores"].values())
            assert sum(answer["scores"].values()) == pytest.approx(1, abs=1e-3)
    for each in found[1:4]:  # float32
        assert [a["score"] for a in each] == pytest.approx([a["score"] for a in found[0]], abs=1e-4)


def test_lines_of_standard_input(workspace, tfmodel):
    stdin = "rain\r\n\nun café\u2028goal\n \nshares".encode()
    done = tfmodel("predict", RUN, stdin=stdin)
    assert [a["text"] for a in answers(done)] == ["rain", "", "un café\u2028goal", " ", "shares"]
    assert tfmodel("predict", RUN, stdin=b"").out == ""


def test_lines_of_standard_input_that_are_not_utf8(workspace, tfmodel):
    done = tfmodel("predict", RUN, stdin=b"rain\nOrl\xe9ans\nstorm\n")
    assert done.code == 2
    assert [json.loads(line)["text"] for line in done.out.splitlines()] == ["rain"]
    assert "Expected UTF-8 on standard input. Received: byte 0xe9 on line 2" in done.err
    assert "iconv -f" in done.err


def test_a_person_at_a_terminal_is_told_what_to_do(workspace, tfmodel):
    person, terminal = os.openpty()
    os.write(person, b"rain\ngoal\n\x04")
    with open(terminal, encoding="utf-8") as stdin:
        done = tfmodel("predict", RUN, stdin=stdin)
    os.close(person)
    assert [answer["text"] for answer in answers(done)] == ["rain", "goal"]
    assert done.err == "Type a text and Enter; Ctrl-D ends.\n"


def test_a_text_of_1_mb_is_answered(workspace, tfmodel):
    done = tfmodel("predict", RUN, stdin=b"rain storm " * 100_000 + b"\ngoal\n")
    long, short = answers(done)
    assert long["label"] == "weather" and len(long["text"]) == 1_100_000
    assert short["text"] == "goal"


def test_an_argument_that_is_not_utf8_is_answered(workspace, tfmodel):
    # What Python makes of such bytes in argv.
    (answer,) = answers(tfmodel("predict", RUN, b"rain \xe9".decode("utf-8", "surrogateescape")))
    assert answer["text"] == "rain \udce9"


def test_a_reader_that_goes_away_is_no_failure(workspace):
    """`tfmodel predict ... | head -1`, and answers come while the input is still open."""
    process = start("-m", "tfmodel.cli", "predict", str(RUN), stdin=subprocess.PIPE)
    process.stdin.write(b"rain\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["text"] == "rain"
    process.stdin.write(b"goal\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["text"] == "goal"
    process.stdout.close()
    process.stdin.write(b"storm\n" * 1000)
    process.stdin.close()
    with process.stderr:
        errors = process.stderr.read().decode()
    assert process.wait() == 0 and errors == ""


def test_files_of_rows_with_newlines(workspace, tfmodel):
    table = [("1", "rain\nand storm", "sport"), ("2", 'a "goal", the team, the coach', "sport")]
    small_run.write_rows(Path("in.csv"), table, ("id", "text", "label"))
    done = tfmodel("predict", SAVEDMODEL, "--input", "in.csv", "--output", "out/answers.jsonl")
    assert done.code == 0 and done.out == ""
    assert done.err.endswith("2 rows answered: out/answers.jsonl\n")
    rows = [json.loads(line) for line in Path("out/answers.jsonl").read_text().splitlines()]
    assert [(row["id"], row["text"], row["input_label"]) for row in rows] == table
    assert [row["label"] for row in rows] == ["weather", "sport"]

    Path("in.jsonl").write_text('{"review": {"text": "rain\\nand storm"}}\n\n{"review.text": ""}\n')
    arguments = ("--input", "in.jsonl", "--output", "answers.csv", "--text", "review.text")
    done = tfmodel("predict", RUN, *arguments)
    assert done.code == 0, done.err
    with open("answers.csv", encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["text"] == "rain\nand storm" and second["text"] == ""
    assert first["label"] == "weather" and float(first["score_weather"]) == float(first["score"])


@pytest.fixture
def pairs(workspace):
    """The trained model in a folder that says it was trained on pairs."""
    shutil.copytree(RUN / "model", "pairs")
    config = json.loads(Path("pairs/config.json").read_text())
    config["tfmodel"]["has_pairs"] = True
    Path("pairs/config.json").write_text(json.dumps(config))
    return "pairs"


def test_files_of_pairs(pairs, tfmodel):
    Path("in.tsv").write_text("a\tb\nrain\tstorm\ngoal\tteam\n")
    arguments = ("--input", "in.tsv", "--output", "out.jsonl", "--text", "a", "--text-pair", "b")
    done = tfmodel("predict", pairs, *arguments)
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [(row["text"], row["text_pair"]) for row in rows] == [
        ("rain", "storm"), ("goal", "team"),
    ]  # fmt: skip
    refused = tfmodel("predict", pairs, "rain")
    assert refused.code == 2 and "expected pairs" in refused.err and "input file" in refused.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "train.csv"], "Expected --input and --output together"),
        (["--input", "train.csv", "--output", "o.jsonl", "rain"], "Expected texts or --input"),
        (["--text", "foo", "rain"], "Expected --text only with --input"),
        (["rain", "--text-pair", "foo"], "Expected --text-pair only with --input"),
        (["--input", "train.txt", "--output", "o.jsonl"], "--input must end in .jsonl, .ndjson"),
        (["--input", "train.csv", "--output", "o.xlsx"], "--output must end in .jsonl"),
        (["--input", "no.csv", "--output", "o.csv"], "Received: a path where nothing is"),
        (["--input", "train.csv", "--output", "train.csv"], "Received: the input itself"),
        (["--input", "train.csv", "--output", "train.csv/o.csv"], "a folder that can be written"),
        (["--input", "train.csv", "--output", "o.csv", "--text", "body"],
         "train.csv:2: expected a text in the field body. Received: no such field; the fields are "
         "text, label. Name yours with --text"),
        (["--input", "bad.jsonl", "--output", "o.csv"], "bad.jsonl:2: expected an object"),
        (["--input", "latin.csv", "--output", "o.csv"], "latin.csv:2: expected UTF-8"),
    ],
)  # fmt: skip
def test_mistakes_with_files(arguments, words, workspace, tfmodel):
    Path("bad.jsonl").write_text('{"text": "rain"}\n["goal"]\n')
    Path("latin.csv").write_bytes("text\npluie à Orléans\n".encode("latin-1"))
    before = sorted(os.listdir())
    done = tfmodel("predict", RUN, *arguments)
    assert done.code == 2 and words in done.err and not done.out
    assert sorted(os.listdir()) == before  # nothing half written


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("runs/none", "a path where nothing is"),
        ("small.yaml", "expected"),
        ("encoder", "expected a fine-tuned model"),
        ("runs", "Received: a folder with small"),
    ],
)
def test_where_nothing_answers(where, words, workspace, tfmodel):
    done = tfmodel("predict", where, "rain")
    assert done.code == 2 and words in done.err


def test_a_run_without_a_model_yet(workspace, tfmodel):
    assert tfmodel("data", "small.yaml", "run=runs/new").code == 0
    done = tfmodel("predict", "runs/new", "rain")
    assert done.code == 2 and "a run that has none yet" in done.err
