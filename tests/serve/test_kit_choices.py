"""What is chosen by what was measured; the configs' definitions; queries. No model is loaded."""

import copy
import json
from pathlib import Path

import pytest

from tfmodel.config import ConfigError
from tfmodel.export.manifest import Manifest
from tfmodel.serve.kit import kit_settings, protos
from tfmodel.serve.kit.batching import choose_batching, choose_threads, largest_batch
from tfmodel.serve.kit.dashboard import SERIES
from tfmodel.serve.kit.figures import read_measured
from tfmodel.serve.kit.measuring import made_up_rows
from tfmodel.serve.kit.measuring_process import _p99
from tfmodel.serve.kit.models import KitModel
from tfmodel.serve.kit.queries import query_problems
from tfmodel.serve.kit.resources import resources_of
from tfmodel.serve.kit.settings import check_name
from tfmodel.serve.kit.smoke import checks_of, rows_to_ask


def batches(**milliseconds):
    """Sizes measured, by their medians: `_8=4.0`."""
    return [
        {
            "rows": int(rows[1:]),
            "p50_ms": p50,
            "p99_ms": 1.5 * p50,
            "rows_per_second": 1000 * int(rows[1:]) / p50,
            "batches": 12,
        }
        for rows, p50 in milliseconds.items()
    ]


GROWING = batches(_1=10, _2=12, _4=16, _8=24, _16=40, _32=72, _64=140)


@pytest.mark.parametrize(
    ("measured", "latency_ms", "size"),
    [
        (GROWING, 1000, 32),  # 444 rows a second; 64 give 457, hardly more
        (GROWING, 71, 16),
        (GROWING, 10, 1),
        (GROWING, 5, 1),  # even a row takes longer
        (batches(_1=1, _2=2, _4=4), 100, 1),  # nothing is gained
        (batches(_1=10, _2=10, _4=200), 100, 2),
    ],
)
def test_the_smallest_batch_that_is_nearly_as_fast_as_the_best(measured, latency_ms, size):
    assert largest_batch(measured, latency_ms=latency_ms) == size


def test_batching_follows_from_the_figures():
    chosen = choose_batching({"batches": GROWING}, latency_ms=100, queue_ms=1000, threads=2)
    assert chosen.figures == {
        "max_batch_size": 32,
        "allowed_batch_sizes": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
        "batch_timeout_micros": 1000,  # a tenth of a row's 10 ms; 4 ms would be saved
        "max_enqueued_batches": 28,  # of 72 ms each, two at once: a second
    }
    size, sizes, timeout, queue = chosen.reasons
    assert "72.0 ms, within the 100 ms" in size and "4.44 times" in size
    assert "1, 2, 3, 4, 6, 8, 12, 16, 24, 32" in sizes
    assert "4.00 ms that a row saves" in timeout and "about 1,008 ms" in queue
    # Padding wastes a third of a batch at most.
    allowed = chosen.allowed_batch_sizes
    for rows in range(1, 33):
        filled = next(size for size in allowed if size >= rows)
        assert (filled - rows) / filled < 1 / 3


def test_a_slow_model_is_not_batched_and_says_why():
    slow = batches(_1=300, _2=700)
    chosen = choose_batching({"batches": slow}, latency_ms=100, queue_ms=1000, threads=4)
    assert (chosen.max_batch_size, chosen.allowed_batch_sizes) == (1, (1,))
    assert (chosen.batch_timeout_micros, chosen.max_enqueued_batches) == (0, 14)
    assert "a single row takes 300.0 ms, more than the 100 ms" in chosen.reasons[0]
    assert "not worth a wait" in chosen.reasons[2]
    fast = batches(_1=0.01, _2=0.011)
    queue = choose_batching({"batches": fast}, latency_ms=100, queue_ms=1000, threads=4)
    assert queue.max_enqueued_batches == 1000


def test_threads_that_bring_nothing_are_not_taken():
    def measured(*rates):
        return {"threads": [{"threads": n, "rows_per_second": r} for n, r in rates]}

    assert choose_threads([measured((1, 100), (2, 104), (4, 104.9))])[0] == 1
    assert choose_threads([measured((1, 100), (2, 106), (4, 107))])[0] == 2
    threads, reason = choose_threads([measured((1, 100), (2, 90)), measured((1, 50), (2, 99))])
    assert threads == 2 and "1: 50, 2: 99" in reason


def test_memory_has_room_for_two_versions():
    measured = {"runtime_memory_mb": 400.0, "model_memory_mb": 200.0, "ready_seconds": 2.0}
    one = resources_of([measured], cores=2)
    assert (one.memory_request_mib, one.memory_limit_mib) == (576, 960)  # 600, 1000 MB
    assert one.probes * one.probe_seconds == 60
    slow = {**measured, "ready_seconds": 100.0}
    two = resources_of([measured, slow], cores=4)
    assert two.memory_request_mib == 768 and two.probes * two.probe_seconds >= 5 * 102
    assert "two versions" in two.reason


def model_of(**manifest):
    return KitModel("m", Path("m/1"), None, Manifest(**{"labels": (), **manifest}), True)


def test_what_the_smoke_script_compares():
    answers = [
        {"label": ["a]b"], "score": [0.5], "scores": [[0.5, 0.3]]},
        {"label": ["c"], "score": [0.501], "scores": [[0.499, 0.501]]},  # a near tie
    ]
    together = {key: answers[0][key] + answers[1][key] for key in answers[0]}
    asked = {"text": ["x", "é y"]}
    found = checks_of(model_of(max_length=8), asked, answers, together, 2)
    assert [(each.title, each.expected) for each in found] == [
        ("row 1: label", '"a'),  # the script cuts there, too
        ("row 1: score", "0.5"),
        ("row 1: scores", "0.5,0.3"),
        ("row 2: score", "0.501"),
        ("row 2: scores", "0.499,0.501"),
        ("2 rows at once: score", "0.5,0.501"),
    ]
    assert found[0].body == '{"inputs": {"text": ["x"]}}' and "é y" in found[3].body
    assert {each.tolerance for each in found} == {0.001}
    half = model_of(max_length=8, precision="mixed_bfloat16")
    (only,) = checks_of(half, {"text": ["x"]}, [{"vector": [[1.0, 2e-05]]}], {}, 1)
    assert (only.output, only.expected, only.tolerance) == ("outputs", "1.0,2e-05", 0.05)
    words = {"tags": [["a", ""]], "scores": [[[0.5], [0.5]]]}  # what is deeper is not compared
    assert [each.output for each in checks_of(half, {"text": ["x"]}, [words], {}, 1)] == ["tags"]


def test_gaps_are_asked_for_and_compared():
    filler = model_of(max_length=8, task="fill")
    columns = rows_to_ask(filler.manifest, None)
    assert all("[MASK]" in text for text in columns["text"])
    rows, _ = made_up_rows({"text": ["my [MASK] cat", "[MASK]"]}, filler.manifest)
    assert rows["text"][0::2] == ["my [MASK] cat", "[MASK]"]
    # The gap is in front, where no long row loses it; each gap costs as much as a row of labels.
    assert rows["text"][1].startswith("[MASK] my  cat my")
    assert rows["text"][3] == "[MASK]" + 8 * " a"
    assert all(text.count("[MASK]") == 1 for text in rows["text"])
    answers = [
        {"tokens": [[["b", "c"]]], "scores": [[[0.04, 0.03]]], "filled": ["a b"]},
        {"tokens": [[["d", "e"]]], "scores": [[[0.04, 0.0399]]], "filled": ["d b"]},  # a near tie
    ]
    together = {name: [answer[name][0] for answer in answers] for name in answers[0]}
    found = checks_of(filler, {"text": ["a [MASK]", "[MASK] b"]}, answers, together, 2)
    assert [(each.title, each.expected) for each in found] == [
        ("row 1: scores", "0.04,0.03"),
        ("row 1: filled", '"ab"'),
        ("row 2: scores", "0.04,0.0399"),
    ]


CHINESE = "好的電影。" * 20


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("rows.txt", (CHINESE + "\n").encode() * 4000, [CHINESE] * 16),  # 1.2 MB
        ("rows.txt", "a\r\nb\u2028c\x0cd\n".encode(), ["a", "b\u2028c\x0cd"]),
        ("rows.txt", "\ufeffa\nb".encode(), ["a", "b"]),
        ("rows.jsonl", '\ufeff{"text": "a\u2028b"}\r\n{"text": "c\x85"}'.encode(),
         ["a\u2028b", "c\x85"]),
        ("rows.jsonl", b'{"text": "\\ud83d\\ude00"}', ["😀"]),
    ],
    ids=range(5),
)  # fmt: skip
def test_texts_are_read_as_they_are(tmp_path, name, content, texts):
    (tmp_path / name).write_bytes(content)
    read = rows_to_ask(Manifest((), 8), tmp_path / name)
    assert read == {"text": texts}


@pytest.mark.parametrize(
    ("name", "content", "task", "words"),
    [
        ("rows.jsonl", b'{"text": "a \\ud800"}', "classify", "surrogates not allowed"),
        ("rows.txt", b"a" * 1_000_001, "classify", "a first line of more than 1,000,000 bytes"),
        ("rows.txt", b"a [MASK]\nb\n", "fill", r"\[MASK\] in every text.*Received: 'b'"),
    ],
    ids=range(3),
)
def test_texts_that_cannot_be_asked_are_refused(tmp_path, name, content, task, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        rows_to_ask(Manifest((), 8, task=task), tmp_path / name)


def test_of_few_batches_the_99th_percentile_is_the_slowest():
    assert _p99(range(1, 13)) == 12 and _p99(range(1, 100)) == 99
    assert _p99(range(1, 101)) == 99 and _p99(range(1, 201)) == 198 and _p99([7]) == 7


FIGURES = {
    "version": 1,
    "weights": "0" * 64,
    "rows": "made-up rows",
    "cores": 2,
    "batches": GROWING,
    "threads": [{"threads": 1, "rows_per_second": 100.0}],
    "ready_seconds": 2,
    "runtime_memory_mb": 400.0,
    "model_memory_mb": 200.0,
    "tensorflow": "2.21.0",
    "processor": "a processor",
    "load_seconds": 1.0,
}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda figures: figures.pop("processor"), "processor: Field required"),
        (lambda figures: figures.update(tensorflow=3), "tensorflow: Input should be a valid str"),
        (lambda figures: figures.update(batches=[]), "batches: List should have at least 1 item"),
        (lambda figures: figures["batches"].pop(0), "batches: .* once, and 1 among them"),
        (lambda figures: figures["batches"].append(GROWING[0]), "batches: .* rows once"),
        (lambda figures: figures["batches"][2].update(rows=5), r"batches.2.rows: .* 1, 2, 4, 8"),
        (lambda figures: figures["batches"][0].update(p50_ms=0), "batches.0.p50_ms: .*than 0"),
        (lambda figures: figures["batches"][0].update(p99_ms="9"), "batches.0.p99_ms: .*number"),
        (lambda figures: figures.update(ready_seconds=float("nan")), "ready_seconds: .*finite"),
        (lambda figures: figures.update(threads=[]), "threads: List should have"),
        (lambda figures: figures.update(cores=True), "cores: Input should be a valid integer"),
    ],
    ids=range(11),
)
def test_figures_that_nobody_measured_are_refused(tmp_path, spoil, words):
    figures = copy.deepcopy(FIGURES)
    path = tmp_path / "measured.json"
    path.write_text(json.dumps({"models": {"m": figures}}))
    assert read_measured(path, ["m"]) == {"m": FIGURES}
    spoil(figures)
    path.write_text(json.dumps({"models": {"m": figures}}))
    with pytest.raises(ConfigError, match=f"of a kit with the model m. Received: {words}"):
        read_measured(path, ["m"])


# --- configs --------------------------------------------------------------------------------


def test_configs_are_read_by_their_definitions():
    text = (
        "max_batch_size { value: 8 } batch_timeout_micros { value: 0 } "
        "allowed_batch_sizes: 4 allowed_batch_sizes: 8 pad_variable_length_inputs: false "
        "enable_large_batch_splitting { value: true } thread_pool_name { value: 'a' }"
    )
    message = protos.read("BatchingParameters", text, where="batching.config")
    assert message.max_batch_size.value == 8 and [*message.allowed_batch_sizes] == [4, 8]
    assert protos.read("BatchingParameters", protos.written(message, "why"), where="x") == message
    path = 'prometheus_config { enable: true, path: "/metrics" }'
    assert protos.read("MonitoringConfig", path, where="x").prometheus_config.enable


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("BatchingParameters", "max_batch_size: 8", "Expected"),
        ("BatchingParameters", "max_batch { value: 8 }", "no field named"),
        ("BatchingParameters", 'num_batch_threads { value: "a" }', "integer"),
        ("MonitoringConfig", "prometheus_config { enabled: true }", "no field named"),
        ("ModelServerConfig", "model_config_list { config { names: 'a' } }", "no field named"),
    ],
)
def test_a_config_with_a_mistake_is_refused(name, text, words):
    with pytest.raises(ConfigError, match=f"x.config: expected a {name} of TF Serving") as caught:
        protos.read(name, text, where="x.config")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("rate(:tensorflow:serving:request_count[5m])", ""),
        ('up{job="a)"} == 0', ""),
        ("sum(rate(:tensorflow:serving:request_latency_bucket[5m])", "do not close"),
        ("sum(rate(a[5m)])", "do not close"),
        ("rate(:tensorflow:serving:requests[5m])", "has no series :tensorflow:serving:requests"),
        ("rate(:tensorflow:serving:request_count_bucket[5m])", "has no series"),
        ("rate(:tensorflow:serving:request_latency[5m])", "is a histogram"),
        ('up{a=~"$model"}', "no variable $model"),
        (':tensorflow:serving:request_count{status!~"a=b|{", job="x"}', ""),
        (':tensorflow:serving:request_latency_bucket{status="OK"}', "has no label status"),
        (
            ':tensorflow:serving:batching_session:queuing_latency_count{model_name="m"}',
            "has no label model_name",
        ),
    ],
)
def test_queries_are_looked_at(query, words):
    found = list(query_problems(query, SERIES))
    assert bool(found) == bool(words) and all(words in each for each in found)


def test_options_out_of_range():
    for values, words in [
        ({"tf_serving": "latest"}, "--tf-serving: expected another value"),
        ({"latency_ms": 0}, "--latency-ms"),
        ({"seconds": -1}, "--seconds"),
        ({"cores": 100_000}, "--cores: expected at most the"),
    ]:
        with pytest.raises(ConfigError, match=words):
            kit_settings(**values)
    assert kit_settings(cores=None).own_cores >= 1
    for name in ("", "a/b", "a:b", ".a", "a b", "é", "a" * 64):
        with pytest.raises(ConfigError, match="--name: expected letters"):
            check_name(name)
