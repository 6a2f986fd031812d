"""The lines a run ends with."""

from tfmodel.report import Results, summary_text


def test_a_finished_run_ends_with_figures_artifacts_and_the_next_command(make_results):
    places = {"report": "runs/news/report.html", "data_report": "runs/news/data_report.html"}
    text = summary_text(make_results(), **places)
    lines = text.splitlines()
    assert lines[0].startswith("accuracy") and "120 test rows" in lines[0]
    assert any(line.startswith("savedmodel/1") and line.endswith("ok") for line in lines)
    assert any(line.startswith(" MediaPipe") and " 217 MB " in line for line in lines)
    assert lines[-4:] == [
        "files    runs/news",
        "data     runs/news/data_report.html",
        "report   runs/news/report.html",
        'next     tfmodel predict runs/news "Shares fell."',
    ]
    assert max(map(len, lines)) <= 80
    assert text.isascii()


def test_lines_stay_narrow_but_commands_stay_whole(make_results):
    parity = make_results().parity
    long = {"a_very_long_name_for_an_artifact/of_this_run.tflite": {"passed": False}}
    command = "tfmodel predict " + "x" * 100
    timings = {f"stage_{index}": 100.0 * index for index in range(12)}
    results = make_results(
        parity={**parity, "artifacts": {**parity["artifacts"], **long}},
        timings=timings,
        next_command=command,
    )
    *lines, last = summary_text(results).splitlines()
    assert max(map(len, lines)) <= 80
    assert last == f"next     {command}"
    assert any("of_this_run" in line and line.endswith("FAILED") for line in lines)


def test_no_two_files_look_alike(make_results):
    names = [
        f"tflite/{variant}{length}.tflite"
        for variant in ("float32", "float16", "int8", "int8_weights", "int8_full")
        for length in ("", "_dynamic_length")
    ]
    artifacts = {name: {"passed": True, "bytes": 91_000_000} for name in names}
    text = summary_text(make_results(parity={"artifacts": artifacts}, evaluation={}, timings={}))
    shown = [line.split("  ")[0] for line in text.splitlines() if line.endswith(" ok")]
    assert len(shown) == len(names) == len({*shown})
    assert "int8_weights_dynamic" in shown and "tflite/int8" in shown


def test_what_is_missing_is_left_out(make_results):
    assert summary_text(Results(title="x")) == ""
    text = summary_text(make_results(evaluation={}, parity={}, timings={}))
    assert text.splitlines()[0] == "training   1 min 52 s"
