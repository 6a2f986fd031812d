"""The scripts of a kit and of the repository, run with a stub in Docker's and the server's place.

Run: pytest tests/serve/test_kit_scripts.py
"""

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import needs
import pytest

from tfmodel.export.manifest import Manifest
from tfmodel.serve.kit import smoke
from tfmodel.serve.kit.models import KitModel
from tfmodel.serve.kit.rendering import render
from tfmodel.serve.kit.resources import resources_of

ROOT = Path(__file__).parents[2]
TEXTS = ["costs $5, ${x} $(y)", "`a` it's", "it’s “so” ‘so’", "ends in \\", '"q" \\', "a]b"]
DOCKER = '#!/bin/sh\necho "$COMPOSE_PROJECT_NAME: $*" >>"$LOG"\n'


@pytest.fixture
def kit(tmp_path):
    """The scripts of a kit, whose model answers with the text as its label."""
    model = KitModel("m", Path("m/1"), None, Manifest(labels=(), max_length=8), True)
    answers = [{"label": [text], "scores": [[0.75, 0.25]]} for text in TEXTS]
    found = smoke.checks_of(model, {"text": TEXTS}, answers, {}, 1)
    figures = {"runtime_memory_mb": 1.0, "model_memory_mb": 1.0, "ready_seconds": 1.0}
    view = {
        "models": [{"name": "m", "version": 1, "checks": found}],
        "resources": resources_of([figures], cores=1),
    }
    folder = tmp_path / "kit"
    folder.mkdir()
    for name in ("smoke.sh", "verify.sh"):
        (folder / name).write_text(render(name, view), "utf-8")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def tools(tmp_path):
    """A folder of programs before others, and the file that they tell what they were asked."""
    folder = tmp_path / "tools"
    folder.mkdir()

    def put(name, text):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
        path = f"{folder}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "LOG": str(tmp_path / "log")}

    return put


def run(*command, **environment):
    words = [str(word) for word in command]
    env = {**os.environ, **environment}
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=60)


def test_no_text_makes_a_script_unsound(kit):
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.exists():
        needs.give_up("shellcheck is not installed: pip install -e '.[kit]'")
    done = run(shellcheck, kit / "smoke.sh", kit / "verify.sh", ROOT / "serving/verify.sh")
    assert done.returncode == 0, done.stdout


class Model(http.server.BaseHTTPRequestHandler):
    """Answers a request with its text as the label."""

    def do_GET(self):
        self._answer(b'{"state": "AVAILABLE"} :tensorflow:serving:request_count{} 1')

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {"label": asked["inputs"]["text"], "scores": [[0.75, 0.25]]}
        self._answer(json.dumps({"outputs": answer}, ensure_ascii=False).encode())

    def _answer(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Nothing."""


def test_the_smoke_script_waits_for_a_server_that_is_just_being_started(kit):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    servers = []

    def start():
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", port), Model))
        servers[0].serve_forever()

    timer = threading.Timer(0.5, start)
    timer.start()
    address = f"http://127.0.0.1:{port}"
    done = run(kit / "smoke.sh", address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed: m: row") == 2 * len(TEXTS) and done.stderr == ""
    servers[0].shutdown()
    servers[0].server_close()
    timer.join()
    done = run(kit / "smoke.sh", address, PATIENCE_SECONDS="0")
    assert done.returncode == 1
    assert done.stdout == f"failed: nothing answers at {address}, after 0 s\n"


def test_verify_touches_nothing_that_serves(kit, tools, tmp_path):
    environment = tools("docker", DOCKER)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # what serves there already does as well
            stack.enter_context(socket.create_server(("127.0.0.1", 8501)))
        done = run(kit / "verify.sh", **environment)
    assert done.returncode == 1
    assert "of 127.0.0.1 to be free. Received: something that answers there" in done.stdout
    assert (tmp_path / "log").read_text() == "tf-serving-verify: compose config --quiet\n"


def test_a_run_is_verified_under_a_name_of_ones_own(kit, tools, tmp_path):
    make = '#!/bin/sh\necho "$*" >"$LOG"\nfor last; do :; done\nmkdir "$last"\n'
    make += 'printf "#!/bin/sh\\necho verified" >"$last/verify.sh"\nchmod 755 "$last/verify.sh"\n'
    environment = tools("tfmodel", make)
    (tmp_path / "my run").mkdir()
    verify = ROOT / "serving/verify.sh"
    done = run(verify, tmp_path / "my run", "--name", "news", **environment)
    assert done.returncode == 0 and done.stdout == "verified\n", done.stderr
    asked = (tmp_path / "log").read_text()
    assert asked.startswith(f"kit {tmp_path}/my run --name news --output ")
    for arguments in ([], [kit, "--name", "news"], [tmp_path / "none"]):
        done = run(verify, *arguments, **environment)
        assert done.returncode == 2 and done.stderr.startswith("usage: "), arguments
