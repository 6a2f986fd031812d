"""TensorBoard itself, in a browser: every dashboard shows what was written for it.

TFMODEL_SCREENSHOTS=FOLDER keeps a picture of each.
"""

import contextlib
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import needs
import numpy as np
import pytest
import toy

from tfmodel.data import Split

pytestmark = pytest.mark.slow

NASTY = "good <b>bold</b> | *star*\n\t[link](http://x.test) `code` <script>alert('x')</script>"
SECONDS = 90
# What a reader sees: `innerText` ends where a shadow root begins.
TEXTS = """() => {
    const texts = [];
    const collect = node => {
        if (node.nodeType === Node.TEXT_NODE) texts.push(node.textContent);
        if (["SCRIPT", "STYLE"].includes(node.nodeName)) return;
        if (node.shadowRoot) collect(node.shadowRoot);
        node.childNodes.forEach(collect);
    };
    collect(document.body);
    return texts.join(" ");
}"""


@contextlib.contextmanager
def tensorboard(logdir, *options):
    """The address of a TensorBoard that shows the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(logdir),
        "--port",
        str(port),
    ]
    with open(logdir / "tensorboard.log", "w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port), "--reload_interval", "2", *options],
            stdout=log, stderr=log,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}/"
    try:
        end = time.monotonic() + 90
        while True:
            try:
                runs = json.loads(fetch(address + "data/runs"))
                if runs:
                    break
            except OSError:
                pass
            assert server.poll() is None and time.monotonic() < end, (
                logdir / "tensorboard.log"
            ).read_text()
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait()


def fetch(address, **query):
    """The body of an answer."""
    whole = address + ("?" + urllib.parse.urlencode(query) if query else "")
    with urllib.request.urlopen(whole, timeout=60) as answer:
        body = answer.read()
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body


def shown(page, *words):
    """The text of the page and its frames, once it has all the words."""
    end = time.monotonic() + SECONDS
    while True:
        text = " ".join(frame.evaluate(TEXTS) for frame in page.frames)
        text = " ".join(text.split())
        if all(word in text for word in words):
            return text
        missing = [word for word in words if word not in text]
        assert time.monotonic() < end, f"not shown: {missing}, but: {text[:3000]}"
        page.wait_for_timeout(500)


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """Two trainings of the toy model, one of them killed and taken up again."""
    folder = tmp_path_factory.mktemp("runs")
    dev = toy.rows(40, seed=9)
    texts = [NASTY, *dev.texts[1:]]
    labels = dev.labels.copy()
    labels[0] = 1 - toy.LABELS.index("good")  # a mistake for sure
    dev = Split(texts, None, labels, dev.origins)
    for name, rate in (("first", 0.03), ("second", 0.01)):
        toy.train(
            folder / name / "checkpoints", dev=dev, logs=folder / name / "logs", epochs=2,
            learning_rate=rate, watch={"profile_steps": [4, 6]},
        )  # fmt: skip
    # What a process did after its last checkpoint, before it was killed, comes twice.
    from tfmodel.train.watch import EventFiles

    files = EventFiles(folder / "second/logs")
    time.sleep(1.1)
    files.start({"seed": 3}, step=9)
    for step in range(10, 13):
        files.log(step, {"train/loss": float(step)})
    files.log(12, {"dev/accuracy": 0.5, "dev/loss": 0.5})
    files.finish({"dev_accuracy": 0.5})
    return folder


@pytest.fixture(scope="module")
def address(logdir):
    needs.package("xprof")
    with tensorboard(logdir) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    playwright = needs.package("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        needs.give_up("no chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # Without a GPU, by software: the projector draws with WebGL.
        browser = driver.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        yield browser
        browser.close()


@pytest.fixture
def dashboard(browser, address, request):
    """A function that opens a dashboard."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})

    def open_dashboard(name):
        page.goto(f"{address}#{name}")
        return page

    yield open_dashboard
    if folder := os.environ.get("TFMODEL_SCREENSHOTS"):
        os.makedirs(folder, exist_ok=True)
        page.screenshot(path=f"{folder}/{request.node.name}.png")
    page.close()


@pytest.mark.parametrize("fast", ["true", "false"])
def test_no_step_is_shown_twice_by_either_of_its_readers(logdir, fast):
    with tensorboard(logdir, f"--load_fast={fast}") as address:
        tags = json.loads(fetch(address + "data/plugin/scalars/tags"))
        assert "metrics/loss" in tags["second/logs/train"]
        for part, steps in (("train", range(1, 13)), ("dev", (6, 12))):
            found = json.loads(
                fetch(
                    address + "data/plugin/scalars/scalars",
                    tag="metrics/loss",
                    run=f"second/logs/{part}",
                )
            )
            assert [step for _, step, _ in found] == list(steps)
        assert [value for _, _, value in found][-1] == 0.5  # the later one


def test_curves_of_train_and_dev_lie_over_each_other(dashboard):
    page = dashboard("timeseries")
    shown(page, "first/logs", "second/logs")
    card = page.locator("card-view").filter(has_text=re.compile(r"metrics/\s*loss"))
    card.first.locator("line-chart").wait_for(timeout=1000 * SECONDS)
    for run in ("first/logs/dev", "first/logs/train"):
        card.first.get_by_text(run).first.wait_for(timeout=1000 * SECONDS)
    page.wait_for_timeout(2000)  # it is drawn once the data are there


def test_scalars_are_grouped(dashboard):
    page = dashboard("scalars")
    # A group is drawn when it is scrolled to or opened.
    shown(page, "metrics/loss", "metrics/accuracy", "speed", "step", "system", "weights_kept")
    page.wait_for_timeout(2000)


def test_hyperparameters_stand_beside_the_kept_figures(dashboard):
    page = dashboard("hparams")
    text = shown(page, "Trial ID", "first", "second", "0.030000", "0.010000")
    for name in ("train.learning_rate", "train.epochs", "seed", "weights_kept/dev_accuracy"):
        assert name in text
    assert "checkpoint_seconds" not in text


def test_the_pictures_are_pictures(dashboard):
    page = dashboard("images")
    shown(page, *(f"pictures/{n}" for n in ("confusion_matrix", "reliability", "precision_recall")))
    page.wait_for_timeout(3000)
    pictures = page.locator("tf-image-loader img")
    widths = [each.evaluate("image => image.naturalWidth") for each in pictures.all()]
    assert len(widths) == 6 and min(widths) > 200


def test_a_mistake_is_shown_as_the_text_it_is(dashboard):
    page = dashboard("text")
    assert " ".join(NASTY.split()) in shown(page, "predicted", "bold")
    assert page.locator("li b, li a, li em, li code, li script").count() == 0


def test_the_projector_shows_a_point_a_sentence(dashboard, address):
    run = "first/logs/dev"
    config = json.loads(fetch(address + "data/plugin/projector/info", run=run))
    [embedding] = config["embeddings"]
    assert embedding["tensorShape"] == [40, 16]
    tensor = fetch(address + "data/plugin/projector/tensor", run=run, name="sentences")
    assert np.isfinite(np.frombuffer(tensor, np.float32)).sum() == 40 * 16
    metadata = fetch(address + "data/plugin/projector/metadata", run=run, name="sentences")
    assert len(metadata.decode().splitlines()) == 41
    page = dashboard("projector")
    shown(page, "Points: 40", "Dimension: 16", "sentences.metadata.tsv", "Total variance described")
    page.wait_for_timeout(2000)


def test_the_profile_of_the_chosen_steps_opens(dashboard, address):
    assert "first/logs/train" in fetch(address + "data/plugin/profile/runs").decode()
    # Its charts are drawn by a script from the web; its figures need none.
    shown(dashboard("profile"), "Performance Summary", "Host Compute Time", "Input Time")
