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
