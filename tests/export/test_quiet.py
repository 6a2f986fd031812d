"""Silence on the terminal, and nowhere else."""

import logging
import os
import sys

import pytest

from tfmodel.export.quiet import quiet


def test_what_c_code_writes_goes_to_the_debug_log(capfd, caplog):
    with caplog.at_level(logging.DEBUG, "tfmodel"), quiet():
        os.write(2, b"from C++\n")
        os.write(1, b"on both streams\n")
    print("afterwards")
    os.write(2, b"still here\n")
    assert capfd.readouterr() == ("afterwards\n", "still here\n")
    assert "from C++" in caplog.text and "on both streams" in caplog.text


def test_an_error_inside_comes_out_and_the_terminal_is_back(capfd):
    with pytest.raises(KeyError), quiet():
        os.write(1, b"lost")
        raise KeyError("x")
    os.write(1, b"seen")
    assert capfd.readouterr().out == "seen"


def test_a_process_without_streams_still_works(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with quiet():
        os.write(2, b"x")
