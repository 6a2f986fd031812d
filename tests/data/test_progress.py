"""Progress: the share of the bytes that were read, whatever reads them."""

import gzip
import sys

import pytest

from tfmodel.data import progress


class Terminal:
    """Standard error that says it is one."""

    def __init__(self):
        self.written = ""

    def write(self, text):
        self.written += text

    def flush(self):
        pass

    def isatty(self):
        return True


@pytest.mark.parametrize("packed", [False, True])
def test_the_share_of_the_bytes_and_the_time_left_are_shown(tmp_path, monkeypatch, packed):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "_UNTIL_SHOWN_SECONDS", 0)
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)
    lines = [f"line {number} of the file\n" for number in range(60_000)]
    paths = [tmp_path / "a", tmp_path / "b"]
    open_file = gzip.open if packed else open
    for path in paths:
        with open_file(path, "wt") as file:
            file.writelines(lines)
    seen = []

    def read():
        for path in paths:
            with open_file(path, "rt") as file:
                for line in file:
                    seen.append(progress._bytes_read(sizes)) if len(seen) < 1 else None
                    yield line

    sizes = {str(path): path.stat().st_size for path in paths}
    count = sum(1 for _ in progress.while_reading(read(), "rows.txt", paths))
    assert count == 120_000 and 0 < seen[0] <= sizes[str(paths[0])]
    assert "rows.txt:" in terminal.written and "120,000 rows" in terminal.written
    assert "B/s" in terminal.written and "<" in terminal.written  # rate, and elapsed<left


def test_nothing_is_shown_where_nobody_looks(tmp_path, capfd):
    path = tmp_path / "a"
    path.write_text("x\n")
    assert list(progress.while_reading(iter([1, 2]), "a", [path])) == [1, 2]
    assert capfd.readouterr().err == ""
