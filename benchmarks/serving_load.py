"""Load for servers that are measured, and what else the machine did meanwhile.

Closed load is `wrk` (apt-get install wrk): each connection sends its next request when it has the
answer. Open load comes whether the answers do or not, as users do: at random moments (a Poisson
process), each answer's time counted from the moment the request was due.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import multiprocessing
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

PATH = "/v1/models/model:predict"
HOST = "127.0.0.1"
_TICKS = os.sysconf("SC_CLK_TCK")
_MOST_CONNECTIONS = 400
_LUA = """
local bodies, place = {}, 0
function init(arguments)
  for line in io.lines(arguments[1]) do bodies[#bodies + 1] = line end
  place = tonumber(arguments[2]) % #bodies
end
function request()
  place = place % #bodies + 1
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, bodies[place])
end
function done(summary, latency, requests)
  local wrong = summary.errors
  local form = 'JSON {"count": %d, "seconds": %f, "p50": %f, "p99": %f, "failed": %d}'
  io.write("\\n" .. string.format(form,
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3,
    wrong.connect + wrong.read + wrong.write + wrong.status + wrong.timeout) .. "\\n")
end
"""


def bodies_of(texts: Sequence[str]) -> list[bytes]:
    """A request's body for each text."""
    return [json.dumps({"instances": [text]}).encode() for text in texts]


@contextlib.contextmanager
def written(bodies: Sequence[bytes]) -> Iterator[Path]:
    """A file of bodies for `closed_load`."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(b"\n".join(bodies) + b"\n")
        file.flush()
        yield Path(file.name)


def closed_load(
    port: int, bodies: Path, *, clients: int, seconds: float, seed: int = 0
) -> dict[str, float]:
    """Answers a second, latency in ms, failures, and the share of all cores that `wrk` took."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_LUA)
        script.flush()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "60s"]
        command += ["-s", script.name, f"http://{HOST}:{port}{PATH}", "--", str(bodies), str(seed)]
        before, started = _of_children(), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        took = time.perf_counter() - started
    found = json.loads(done.stdout.rpartition("JSON ")[2])
    share = (_of_children() - before) / took / (os.cpu_count() or 1)
    return {"rate": found.pop("count") / found.pop("seconds"), **found, "share": share}


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def open_load(
    port: int, bodies: Sequence[bytes], *, rate: float, seconds: float, seed: int = 0
) -> dict[str, float]:
    """The same of requests that come at so many a second, from a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_open, (port, list(bodies), rate, seconds, seed))


def _open(port: int, bodies: list[bytes], rate: float, seconds: float, seed: int) -> dict:
    generator = np.random.default_rng(seed)
    count = max(1, int(rate * seconds))
    due = np.cumsum(generator.exponential(1 / rate, count))
    chosen = generator.integers(0, len(bodies), count)
    requests = [_request(bodies[row]) for row in chosen]
    processor = time.process_time()
    found, wall = asyncio.run(_send_all(port, requests, due))
    took = np.array(found)
    answered = took[np.isfinite(took)] * 1000
    p50, p99 = np.percentile(answered, [50, 99]) if len(answered) else (np.nan, np.nan)
    return {
        "rate": len(answered) / wall,
        "p50": float(p50),
        "p99": float(p99),
        "failed": int(count - len(answered)),
        "share": (time.process_time() - processor) / wall / (os.cpu_count() or 1),
    }


def _request(body: bytes) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _send_all(port: int, requests: list[bytes], due: np.ndarray) -> tuple[list[float], float]:
    """Seconds of each answer, infinite where there was none, and of all together."""
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    room = asyncio.Semaphore(_MOST_CONNECTIONS)
    loop = asyncio.get_running_loop()
    begin = loop.time() + 0.2

    async def send(request: bytes, at: float) -> float:
        async with room:
            connection = None
            try:
                connection = free.pop() if free else await asyncio.open_connection(HOST, port)
                reader, writer = connection
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                free.append(connection)
                return loop.time() - at if head.startswith(b"HTTP/1.1 200") else np.inf
            except (OSError, asyncio.IncompleteReadError):
                if connection is not None:
                    connection[1].close()
                return np.inf

    tasks = []
    for request, moment in zip(requests, due.tolist(), strict=True):
        if (left := begin + moment - loop.time()) > 0:
            await asyncio.sleep(left)
        tasks.append(asyncio.create_task(send(request, begin + moment)))
    found = await asyncio.gather(*tasks)
    wall = max(loop.time() - begin, float(due[-1]))
    for _, writer in free:
        writer.close()
    return found, wall


# --- servers ----------------------------------------------------------------------------------


class Served:
    """A server in a process of its own.

    Attributes:
        port: of its REST.
        cold_seconds: from the start of the process to its first answer.
    """

    def __init__(self, command: Callable[[int], list[str]], body: bytes, *, patience: float = 180):
        self.port = free_port()
        started = time.perf_counter()
        self._process = subprocess.Popen(
            command(self.port), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        while not answers(self.port, body):
            if self._process.poll() is not None or time.perf_counter() - started > patience:
                self._process.kill()
                said = self._process.communicate()[1].decode("utf-8", "replace")[-2000:]
                raise RuntimeError(f"The server did not start: {said}")
            time.sleep(0.01)
        self.cold_seconds = time.perf_counter() - started

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    @property
    def processor_seconds(self) -> float:
        """What it has computed so far."""
        return processor_seconds(self._process.pid)

    @property
    def resident_bytes(self) -> int:
        """Its memory."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def ours(folder: Path, *options: str) -> Callable[[int], list[str]]:
    """`tfmodel serve`, as a user types it."""
    command = [sys.executable, "-m", "tfmodel.cli", "serve", str(folder), *options]
    return lambda port: [*command, "--rest-port", str(port), "--grpc-port", "0"]


def peer(name: str, folder: Path, *options: str) -> Callable[[int], list[str]]:
    """One of `serving_peers.py`."""
    script = str(Path(__file__).with_name("serving_peers.py"))
    return lambda port: [sys.executable, script, name, str(folder), "--port", str(port), *options]


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server((HOST, 0)) as listening:
        return listening.getsockname()[1]


def answers(port: int, body: bytes) -> list[dict] | None:
    """The answer to a body; None where there is none."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        connection.request("POST", PATH, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        return json.loads(content)["predictions"] if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


# --- the machine ------------------------------------------------------------------------------


def processor_seconds(pid: int) -> float:
    """What a process has computed so far, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def busy_seconds() -> float:
    """What all processes of the machine have computed so far, and what others took from it."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS


def machine(seconds: float = 2.0) -> str:
    """The machine, and how much of it is in use before anything is measured."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown processor",
    )
    before = busy_seconds()
    time.sleep(seconds)
    busy = (busy_seconds() - before) / seconds / (os.cpu_count() or 1)
    load = " ".join(f"{each:.2f}" for each in os.getloadavg())
    return f"{os.cpu_count()} cores of {model}; load average {load}; {busy:.0%} of it in use"


class Meanwhile:
    """How much of the cores a server took, and how much was taken by others than it and the load.

    Args:
        served: the server.
    """

    def __init__(self, served: Served):
        self._served = served

    def __enter__(self) -> Meanwhile:
        self._begun = time.perf_counter(), busy_seconds(), self._served.processor_seconds
        return self

    def __exit__(self, *exception: object) -> None:
        started, busy, own = self._begun
        room = (time.perf_counter() - started) * (os.cpu_count() or 1)
        self.server = (self._served.processor_seconds - own) / room
        self._busy = (busy_seconds() - busy) / room

    def others(self, load: float) -> float:
        """The share of others, given that of the load generator."""
        return max(0.0, self._busy - self.server - load)


def medians(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {key: statistics.median(each[key] for each in figures) for key in figures[0]}
