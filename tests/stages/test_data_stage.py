"""The stage `data` leaves a page about its rows, and the command says where.

Run: pytest tests/stages/test_data_stage.py
"""

from pathlib import Path


def test_the_page_about_the_data_is_there_and_named(workspace, tfmodel):
    page = Path("runs/new/data_report.html")
    done = tfmodel("data", "small.yaml", "run=runs/new")
    assert done.code == 0, done.err
    assert "data     runs/new/data_report.html" in done.out.splitlines()
    before = page.read_bytes()
    assert before.startswith(b"<!doctype html>") and b"<h1>new</h1>" in before

    page.unlink()  # by a user who tidies up: the rows need not be prepared again
    done = tfmodel("data", "small.yaml", "run=runs/new")
    assert "data: up to date" in done.err
    assert page.read_bytes() == before


def test_labels_that_no_task_learns_are_prepared_and_then_refused(workspace, tfmodel):
    lines = [f"Anna O\nsaw O\ntown{number} B-place\n\n" for number in range(40)]
    Path("towns.conll").write_text("".join(lines))
    tags = ["run=runs/tags", "data.train=towns.conll"]
    done = tfmodel("data", "small.yaml", *tags)
    assert done.code == 0, done.err
    assert "tfmodel.load_dataset('runs/tags/data')" in done.out
    done = tfmodel("run", "small.yaml", *tags)
    assert done.code == 2
    assert "expected rows with one class or several classes each. Received: " in done.err
    assert "whose target is tags" in done.err


def test_a_zip_and_several_files_are_sources_of_a_run(workspace, tfmodel):
    import zipfile

    rows = Path("train.csv").read_text().splitlines(keepends=True)
    for part in range(2):
        Path(f"part-{part}.csv").write_text(rows[0] + "".join(rows[1 + part :: 2]))
    with zipfile.ZipFile("rows.zip", "w") as archive:
        archive.write("train.csv", "inside/rows.csv")
    for name, source in (("parts", "part-*.csv"), ("zip", "rows.zip/inside/rows.csv")):
        done = tfmodel("data", "small.yaml", f"run=runs/{name}", f"data.train={source}")
        assert done.code == 0, done.err
        again = tfmodel("data", "small.yaml", f"run=runs/{name}", f"data.train={source}")
        assert "data: up to date" in again.err
    Path("part-1.csv").write_text("".join(rows[:10]))
    changed = tfmodel("data", "small.yaml", "run=runs/parts", "data.train=part-*.csv")
    assert "data: up to date" not in changed.err and changed.code == 0
