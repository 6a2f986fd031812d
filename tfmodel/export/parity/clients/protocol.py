"""How a client is asked and answers: a JSON request on stdin, a JSON answer in a file.

Request: `path` of the file; `rows`, asked one by one and timed; `checks`, asked once each and not
timed; and what else a client says it wants. Answer: `answers` and `checks`, null where a row made
an error; `errors`, by row; `milliseconds` of each row; `load_seconds`; `runtime_memory_mb`, the
process's peak once the runtime is imported, and `peak_memory_mb`, its peak at the end. While a
client works the file holds its `stage`, so that a crash can be told apart from another.
"""

import json
import os
import re
import sys
import time


def serve(import_runtime, load):
    """Answer the request on stdin into the file that the first argument names.

    Args:
        import_runtime: imports the runtime and returns it.
        load: takes the runtime and the request, and returns what answers one row.
    """
    request = json.load(sys.stdin)
    try:
        _write({"stage": "importing the runtime"})
        runtime = import_runtime()
        runtime_memory_mb = _peak_memory_mb()
        _write({"stage": "loading it"})
        started = time.perf_counter()
        ask = load(runtime, request)
        load_seconds = time.perf_counter() - started
        _write({"stage": "answering"})
        answers, milliseconds, errors = _answer(ask, request["rows"])
        checks, _, check_errors = _answer(ask, request.get("checks", []))
    except Exception as error:  # whatever it is, the other side puts it into words
        _write({"error": f"{type(error).__name__}: {str(error)[:500]}"})
        return
    _write(
        {
            "answers": answers,
            "errors": errors,
            "checks": checks,
            "check_errors": check_errors,
            "milliseconds": milliseconds,
            "load_seconds": load_seconds,
            "runtime_memory_mb": runtime_memory_mb,
            "peak_memory_mb": _peak_memory_mb(),
        }
    )


def _answer(ask, rows):
    answers, milliseconds, errors = [], [], {}
    for number, row in enumerate(rows):
        try:
            if number == 0:
                ask(row)  # the first call allocates
            started = time.perf_counter()
            answers.append(ask(row))
            milliseconds.append(1000 * (time.perf_counter() - started))
        except Exception as error:
            answers.append(None)
            errors[number] = str(error)[:300]
    return answers, milliseconds, errors


def _peak_memory_mb():
    """The largest resident size of this process so far; None where Linux does not say."""
    try:
        with open("/proc/self/status") as status:
            found = re.search(r"VmHWM:\s*(\d+) kB", status.read())
    except OSError:
        return None
    return int(found.group(1)) * 1024 / 1e6 if found else None


def _write(answer):
    """Replace the file as a whole: a crash must not leave half of it."""
    path = sys.argv[1]
    with open(path + ".partial", "w") as file:
        json.dump(answer, file)
    os.replace(path + ".partial", path)
