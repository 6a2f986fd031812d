"""The Beam pipeline gives what `prepare_corpus` gives: the same documents, accounted alike."""

import json

import needs
import pytest
from document_texts import as_wiki, document

from tfmodel.config import ConfigError
from tfmodel.data.corpus import CorpusSettings, prepare_corpus
from tfmodel.data.corpus.settings import DocumentCleaningSettings, LineSettings

pytestmark = [
    pytest.mark.slow,
    # Beam's own, of what is not installed and of how it calls itself.
    pytest.mark.filterwarnings("ignore:::apache_beam"),
]

IN_THIS_PROCESS = ("--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",)


@pytest.fixture(autouse=True)
def _beam():
    needs.package("apache_beam")


def by_beam(settings, folder, *, flags=IN_THIS_PROCESS):
    from tfmodel.data.corpus import prepare_corpus_with_beam

    return prepare_corpus_with_beam(settings, folder, seed=3, flags=flags)


def dropped_of(corpus):
    lines = (corpus.folder / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted(lines)


def rows_of(corpus, name):
    split = corpus.dataset.split(name)
    return list(zip(split.texts, split.origins, strict=True))


def check_same(tmp_path, *, flags=IN_THIS_PROCESS, **settings):
    """Prepare in both ways and compare all there is to compare; give the corpus."""
    chosen = CorpusSettings(workers=0, **settings)
    local = prepare_corpus(chosen, tmp_path / "local", seed=3)
    found = by_beam(chosen, tmp_path / "beam", flags=flags)
    assert found.counts == local.counts
    for name in local.counts:
        assert rows_of(found, name) == rows_of(local, name)
    assert dropped_of(found) == dropped_of(local)
    assert found.account == local.account
    assert {p.name for p in found.folder.iterdir()} == {p.name for p in local.folder.iterdir()}
    return found


def messy(first):
    texts = [document(first + seed) for seed in range(60)]
    for number in range(25):
        texts[number] += f"\nSubscribe to our letter\nAll about {'ABC'[number % 3]}"
    for number in range(30, 34):
        texts[number] += f"\n{document(500, 30, 1)}"
    texts[35] = "Subscribe to our letter\nToo few."
    near = texts[7].replace(" ", " and ", 1)
    return [*texts, texts[50], near, "<b>Too</b> short (; or)", "so " * 300, "", texts[8] + " x"]


@pytest.mark.parametrize(
    "settings",
    [
        {"privacy": True},
        {"max_documents": 40, "near_duplicates": None},
        {"lines": LineSettings(shared=None, repeated=None), "max_characters": 1_000},
    ],
    ids=["default", "sample", "no lines"],
)
def test_the_same_documents(write, tmp_path, settings):
    if "privacy" in settings:
        needs.package("phonenumbers")
        needs.package("stdnum")
    texts = messy(0)
    texts[3] += "\nWrite to ann@example.com."
    write("in/a/wiki_00", as_wiki(texts))
    write("in/b/wiki_00", as_wiki([*messy(0)[:9], *messy(200), document(900, 700, 40)]))
    corpus = check_same(tmp_path, train=str(tmp_path / "in"), **settings)
    assert {"duplicate", "too_short", "too_repetitive"} <= set(corpus.account["dropped"])
    if settings.get("privacy"):
        assert corpus.account["private"] == {"email": 1}
        assert corpus.account["lines"]["repeated"]["lines"] > 0
        assert corpus.account["lines"]["shared"]["examples"][0]["documents"] >= 40


def test_named_dev_packed_and_damaged_files_in_several_processes(write, tmp_path):
    import gzip

    lines = [json.dumps({"text": text}) for text in messy(0)]
    write("in/a.jsonl.gz", gzip.compress("\n".join(lines).encode()))
    write("in/b.jsonl.gz", gzip.compress("\n".join(lines[5:]).encode())[:-900])
    write("in/c.jsonl", '{"text": "broken\n' + json.dumps({"text": document(300)}))
    write("dev.jsonl", "\n".join(lines[:9]))
    corpus = check_same(
        tmp_path,
        train=str(tmp_path / "in"),
        dev=str(tmp_path / "dev.jsonl"),
        skip_damaged=True,
        cleaning=DocumentCleaningSettings(min_words=5),
    )
    assert {"damaged_file", "also_in_dev"} <= set(corpus.account["dropped"])


def test_a_mistake_is_said_as_ever(write, tmp_path):
    path = write("a.txt", "short\nlines\n" * 30)
    with pytest.raises(ConfigError, match=r"60 too_short.*corpus\.documents"):
        by_beam(CorpusSettings(train=str(path)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
