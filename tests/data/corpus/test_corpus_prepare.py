"""From files to a corpus: what stays, what goes and why, the same however it is made."""

import functools
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time

import needs
import pytest
import tensorflow_datasets as tfds
from document_texts import as_wiki, document

from tfmodel.config import ConfigError
from tfmodel.data.corpus import CorpusSettings, load_corpus, prepare_corpus
from tfmodel.data.corpus.settings import DocumentCleaningSettings, LineSettings
from tfmodel.data.parts import reading


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 40 documents, so that there are several."""
    monkeypatch.setattr(reading, "in_batches", functools.partial(reading.in_batches, most_rows=40))


def make(tmp_path, train, *, seed=1, folder="out", workers=0, **settings):
    chosen = CorpusSettings(train=str(train), workers=workers, **settings)
    return prepare_corpus(chosen, tmp_path / folder, seed=seed)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def dropped(corpus):
    lines = (corpus.folder / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def all_texts(corpus):
    return [text for split in ("train", "dev") for text in corpus.texts(split)]


def messy():
    """Documents of which some are copies, nearly copies, too short, or repeat themselves."""
    texts = [document(seed) for seed in range(100)]
    for number in range(30):
        texts[number] += "\nSubscribe to get our letter each week"
    for number in range(40, 44):
        texts[number] += (
            f"\nThe same long paragraph stands in several documents. {document(500, 20, 1)}"
        )
    near = document(7).replace(" ", " and ", 1)
    return [*texts, document(60), near, "Too short.", "so " * 300, "", "Home | A | B | C"]


@pytest.fixture
def wiki(write):
    return write("wiki/AA/wiki_00", as_wiki(messy()))


def test_every_document_is_kept_or_accounted(wiki, tmp_path, small_parts):
    corpus = make(tmp_path, wiki.parent.parent)
    account = corpus.account
    assert account["raw"] == 106 == account["kept"] + sum(account["dropped"].values())
    assert account["dropped"] == {
        "empty_text": 2,  # the menu is nothing else
        "duplicate": 1,
        "near_duplicate": 1,
        "too_short": 1,
        "too_repetitive": 1,
    }
    by_reason = {entry["reason"]: entry for entry in dropped(corpus)}
    assert by_reason["duplicate"]["detail"].endswith("wiki_00:515")  # where the first stands
    assert "one run of 2 words" in by_reason["too_repetitive"]["detail"]
    assert account["lines"]["shared"]["lines"] == 30
    assert account["lines"]["shared"]["examples"] == [
        {"line": "Subscribe to get our letter each week", "documents": 30}
    ]
    assert account["lines"]["repeated"]["lines"] == 3
    texts = all_texts(corpus)
    assert len(texts) == account["kept"] == sum(corpus.counts.values())
    assert not any("Subscribe" in text for text in texts)
    assert sum("same long paragraph" in text for text in texts) == 1
    assert {document(50), document(90)} <= set(texts)  # as they were, with their lines
    assert account["cleaning"]["navigation"]["rows"] == 1


def test_others_read_the_folder(wiki, tmp_path):
    corpus = make(tmp_path, wiki)
    builder = tfds.builder_from_directory(str(corpus.folder))
    rows = [row["text"].decode() for row in builder.as_dataset(split="dev").as_numpy_iterator()]
    assert rows == list(corpus.texts("dev"))
    assert load_corpus(corpus.folder).counts == corpus.counts


def test_processes_and_parts_change_nothing(wiki, tmp_path, monkeypatch):
    one = make(tmp_path, wiki, folder="one")
    monkeypatch.setattr(reading, "in_batches", functools.partial(reading.in_batches, most_rows=40))
    two = make(tmp_path, wiki, folder="two", workers=2)
    assert contents(one.folder) == contents(two.folder)


@pytest.mark.parametrize(
    ("switch", "reason"),
    [
        ({"cleaning": DocumentCleaningSettings(min_words=0)}, "too_short"),
        ({"cleaning": DocumentCleaningSettings(repetitive=False)}, "too_repetitive"),
        ({"near_duplicates": None}, "near_duplicate"),
    ],
)
def test_each_rule_has_a_switch(wiki, tmp_path, switch, reason):
    corpus = make(tmp_path, wiki, lines=LineSettings(shared=None, repeated=None), **switch)
    assert reason not in corpus.account["dropped"]
    assert sum("Subscribe" in text for text in all_texts(corpus)) >= 30
    assert sum("same long paragraph" in text for text in all_texts(corpus)) == 4


def test_script_and_language(tmp_path, write):
    needs.package("py3langid")
    english = [
        f"{document(seed)} This is the river that runs through the old town." for seed in range(8)
    ]
    russian = (
        "Москва является столицей России, и в ней живёт более двенадцати миллионов человек. " * 2
    )
    german = (
        "Der Fluss fließt durch die alte Stadt, und am Ufer stehen viele Häuser aus Stein. " * 3
    )
    path = write(
        "a.jsonl", "".join(json.dumps({"text": t}) + "\n" for t in [*english, russian, german])
    )
    cleaning = DocumentCleaningSettings(scripts=["Latin"], languages=["en"], repetitive=False)
    near = make(tmp_path, path, cleaning=cleaning)
    assert near.account["dropped"].get("other_script") == 1
    assert near.account["dropped"].get("other_language", 0) >= 1
    assert any(entry["text"].startswith("Der Fluss") for entry in dropped(near))


def test_private_pieces_are_replaced_and_shown_nowhere(tmp_path, write):
    needs.package("phonenumbers")
    needs.package("stdnum")
    texts = [document(seed) for seed in range(30)]
    texts[3] += "\nWrite to  ann.lee@example.com or <b>call</b> +1 650-253-0000."
    texts[4] = "Short: bob@example.org"
    lines = [json.dumps({"text": text}) for text in texts]
    lines[9] = '{"text": "broken, carl@example.net'
    corpus = make(tmp_path, write("a.jsonl", "\n".join(lines)), privacy=True)
    assert corpus.account["private"] == {"email": 2, "phone": 1}
    everything = b"".join(contents(corpus.folder).values())
    for private in (b"ann.lee@", b"bob@", b"carl@", b"253-0000"):
        assert private not in everything
    assert any("PRIVATEEMAIL" in text for text in all_texts(corpus))
    assert not corpus.folder.with_name(".out.work").exists()


def test_what_cleaning_uncovers_is_private_in_the_account_too(tmp_path, write):
    needs.package("phonenumbers")
    needs.package("stdnum")
    texts = [document(seed) for seed in range(40)]
    hidden = [
        "Write to ann&#64;example.com today.",
        "Mail bob\u200b@exam\u200bple.org soon.",
        "Mail carl<b>@</b>example.net soon.",
        "Her card is 4111<b></b>1111<i></i>1111<i></i>1111 here.",
        "Call +1 650-253<!-- x -->-0000 now.",
    ]
    for number, text in enumerate(hidden):
        texts[number] = f"{text} {texts[number]}"
    texts[20] = f"R&amp;D of <b>bridges</b>. {texts[20]}"
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    lines.append('{"text": "cut in the mid, ann&#64;example.com')
    corpus = make(tmp_path, write("a.jsonl", "\n".join(lines)), privacy=True)
    assert corpus.account["private"] == {"card": 1, "email": 3, "phone": 1}
    shown = json.dumps(corpus.account["cleaning"]) + json.dumps(dropped(corpus))
    for trace in ("ann&#64", "ann@", "@exam", "carl", "4111", "650-253"):
        assert trace not in shown
    steps = corpus.account["cleaning"]
    assert (steps["html"]["rows"], steps["html_entities"]["rows"]) == (4, 2)
    assert [each["before"][:5] for each in steps["html_entities"]["examples"]] == ["R&amp"]


SIGNS = [
    "setTimeout(() => { run(); }, 10);",
    "Hello {{ user.name }}!",
    "if [[ -f $x ]]; then",
    "WHERE x = '' AND y = ''",
    "- [ ] buy milk",
    "let x = a-{b}-c",
]


@pytest.mark.parametrize("value", ["auto", True, False])
@pytest.mark.parametrize("kind", ["jsonl", "wikiextractor"])
def test_wiki_markup_goes_from_wiki_text_unless_told_otherwise(tmp_path, write, kind, value):
    texts = [f"{document(seed)}\n{sign}" for seed, sign in enumerate(SIGNS)]
    if kind == "jsonl":
        path = write("a.jsonl", "\n".join(json.dumps({"text": text}) for text in texts))
    else:
        path = write("wiki_00", as_wiki(texts))
    corpus = make(tmp_path, path, cleaning=DocumentCleaningSettings(wiki_markup=value))
    removes = value is True or (value == "auto" and kind == "wikiextractor")
    assert corpus.account["settings"]["cleaning"]["wiki_markup"] is removes
    assert ("wiki_markup" in corpus.account["cleaning"]) is removes
    assert (sorted(all_texts(corpus)) == sorted(texts)) is not removes


def test_words_are_counted_until_there_are_enough(tmp_path, write):
    """A ruler of signs, or data in letters, may stand before what is text."""
    none = LineSettings(shared=None, repeated=None)
    texts = [document(seed) for seed in range(20)]
    starts = ["-" * 1_300 + "\n", "~ " * 700, "QUJD" * 400 + " "]
    texts += [start + document(50 + number) for number, start in enumerate(starts)]
    path = write("a.jsonl", "\n".join(json.dumps({"text": text}) for text in texts))
    assert make(tmp_path, path, lines=none).account["dropped"] == {}


# --- splits ---------------------------------------------------------------------------------


def test_dev_is_split_off_by_the_text_alone(tmp_path, write):
    def dev_of(seeds, **settings):
        path = write("t.txt", "\n".join(document(seed, lines=1) for seed in seeds))
        corpus = make(tmp_path, path, **settings)
        return set(corpus.texts("dev")), corpus.counts

    first, counts = dev_of(range(100))
    assert counts == {"train": 90, "dev": 10}  # a tenth at most, however many are wanted
    again, _ = dev_of(reversed(range(100)))
    assert again == first
    more, counts = dev_of(range(200), min_dev_documents=10, dev_share=0.01)
    assert counts == {"train": 190, "dev": 10} and len(more & first) > 0
    other, _ = dev_of(range(100), seed=2)
    assert other != first


def origins_of(corpus):
    builder = tfds.builder_from_directory(str(corpus.folder))
    return {
        split: [
            row["origin"].decode() for row in builder.as_dataset(split=split).as_numpy_iterator()
        ]
        for split in ("train", "dev")
    }


@pytest.mark.parametrize("seed", range(4))
def test_all_pieces_of_a_document_are_on_one_side(tmp_path, write, seed):
    lines = [json.dumps({"text": document(n, words=900, lines=9)}) for n in range(8)]
    corpus = make(tmp_path, write("a.jsonl", "\n".join(lines)), seed=seed, max_characters=1_000)
    found = origins_of(corpus)
    train, dev = ({origin.partition("#")[0] for origin in found[split]} for split in found)
    assert len(found["train"]) > len(train) and dev
    assert not train & dev and len(train | dev) == 8


def test_pieces_of_a_document_alone_are_no_corpus(tmp_path, write):
    path = write("a.jsonl", json.dumps({"text": document(1, words=900, lines=9)}))
    with pytest.raises(ConfigError, match="Received: pieces of one, .*by corpus.dev"):
        make(tmp_path, path, max_characters=1_000)


def test_blocks_longer_than_memory_should_hold_are_of_one_group(tmp_path, write, monkeypatch):
    from tfmodel.data.reading import documents

    monkeypatch.setattr(documents, "_LONGEST_BLOCK_CHARACTERS", 500)
    for number in range(5):
        write(f"books/{number}.txt", document(number, words=900, lines=9))
    corpus = make(tmp_path, tmp_path / "books", documents="file")
    found = origins_of(corpus)
    train, dev = ({origin.partition(":")[0] for origin in found[split]} for split in found)
    assert len(found["train"]) > len(train) and not train & dev and len(train | dev) == 5


def test_no_cut_goes_through_what_is_private(tmp_path, write):
    needs.package("phonenumbers")
    needs.package("stdnum")
    key = "\n".join(f"{n}{'Ab1/' * 12}" for n in range(10, 22))
    block = f"-----BEGIN RSA PRIVATE KEY-----\n{key}\n-----END RSA PRIVATE KEY-----"
    texts = [f"{document(1, 110, 9)}\n{block}\n{document(2, 300, 20)}"]
    for number in range(40):
        start = (document(10 + number, 260, 1) * 2)[: 960 + number]
        texts.append(f"{start} 4111 1111 1111 1111 {document(60 + number, 60, 1)}")
        texts.append(f"{start} call me on 467 3395 {document(160 + number, 60, 1)}")
    path = write("a.jsonl", "\n".join(json.dumps({"text": text}) for text in texts))
    corpus = make(tmp_path, path, max_characters=1_000, privacy=True, near_duplicates=None)
    everything = "\n".join([*all_texts(corpus), json.dumps(dropped(corpus))])
    assert corpus.account["private"] == {"card": 40, "phone": 40, "secret": 1}
    assert not re.search(r"Ab1/|PRIVATE KEY|\b(4111|1111|467|3395)\b", everything)


def test_no_cut_goes_through_what_cleaning_uncovers(tmp_path, write):
    needs.package("phonenumbers")
    needs.package("stdnum")
    key = "<br>\n".join(f"{n}{'Ab1/' * 12}" for n in range(10, 22))
    block = f"<p>-----BEGIN RSA PRIVATE KEY-----<br>\n{key}<br>\n-----END RSA PRIVATE KEY-----</p>"
    texts = [f"{document(1, 110, 9)}\n{block}\n{document(2, 300, 20)}"]
    for number in range(0, 60, 2):
        start = (document(10 + number, 260, 1) * 2)[: 930 + number]
        texts.append(f"{start} 4111&nbsp;1111 1111&nbsp;1111 {document(60 + number, 60, 1)}")
        texts.append(f"{start} call me on 467<b> </b>3395 {document(160 + number, 60, 1)}")
        mail = '<a href="#">ann</a><b>&#64;</b><!-- not for all -->example.com'
        texts.append(f"{start} {mail} {document(260 + number, 60, 1)}")
    path = write("a.jsonl", "\n".join(json.dumps({"text": text}) for text in texts))
    corpus = make(tmp_path, path, max_characters=1_000, privacy=True, near_duplicates=None)
    everything = "\n".join([*all_texts(corpus), json.dumps(dropped(corpus))])
    assert corpus.account["private"] == {"card": 30, "email": 30, "phone": 30, "secret": 1}
    assert not re.search(r"Ab1/|PRIVATE KEY|\b(4111|1111|467|3395|ann|example)\b|[<>]", everything)


def test_what_is_private_is_whole_where_a_reader_parts_a_file(tmp_path, write, monkeypatch):
    from tfmodel.data.reading import documents

    needs.package("phonenumbers")
    needs.package("stdnum")
    monkeypatch.setattr(documents, "_LONGEST_BLOCK_CHARACTERS", 700)
    key = "\n".join(f"{n}{'Ab1/' * 12}" for n in range(10, 22))
    block = f"-----BEGIN RSA PRIVATE KEY-----\n{key}\n-----END RSA PRIVATE KEY-----"
    for number in range(4):
        text = f"{document(number, 80, 2)}\n{block}\n{document(9 + number, 300, 20)}"
        write(f"books/{number}.txt", text)
    corpus = make(
        tmp_path, tmp_path / "books", documents="file", privacy=True, max_characters=1_000
    )
    everything = "\n".join([*all_texts(corpus), json.dumps(dropped(corpus))])
    assert corpus.account["private"] == {"secret": 4}
    assert not re.search("Ab1/|PRIVATE KEY", everything)


def test_dev_that_is_named_keeps_its_documents(tmp_path, write):
    train = write("train.txt", "\n".join(document(seed, lines=1) for seed in range(30)))
    dev = write("dev.txt", "\n".join(document(seed, lines=1) for seed in range(25, 33)))
    corpus = make(tmp_path, train, dev=str(dev))
    assert corpus.counts == {"train": 25, "dev": 8}
    assert corpus.account["dropped"] == {"also_in_dev": 5}


def test_a_sample_is_drawn(tmp_path, write):
    train = write("train.txt", "\n".join(document(seed, lines=1) for seed in range(50)))
    corpus = make(tmp_path, train, max_documents=20)
    assert corpus.counts == {"train": 20, "dev": 5}
    assert corpus.account["dropped"] == {"max_documents": 25}
    assert {entry["reason"] for entry in dropped(corpus)} == {"max_documents"}


# --- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["line", "blank_line", "file"])
def test_what_a_document_is_in_text(tmp_path, write, unit):
    for number in range(12):
        two = f"{document(2 * number, 90)}\n\n{document(2 * number + 1, 90)}\n"
        write(f"books/{number:02d}.txt", two)
    cleaning = DocumentCleaningSettings(min_words=10)
    corpus = make(tmp_path, tmp_path / "books", documents=unit, cleaning=cleaning)
    assert corpus.account["raw"] == {"line": 72, "blank_line": 24, "file": 12}[unit]
    assert sum(corpus.counts.values()) == corpus.account["raw"]


@pytest.mark.parametrize("kind", ["gz", "zst", "plain"])
def test_packed_files(tmp_path, write, kind):
    raw = "".join(json.dumps({"body": {"text": document(n)}}) + "\n" for n in range(20)).encode()
    if kind == "gz":
        path = write("a.jsonl.gz", gzip.compress(raw))
    elif kind == "zst":
        zstandard = pytest.importorskip("zstandard")
        path = write("a.jsonl.zst", zstandard.compress(raw))
    else:
        path = write("a.jsonl", raw)
    assert make(tmp_path, path, text="body.text").counts == {"train": 18, "dev": 2}


def test_a_corpus_of_ours_and_other_tfds_folders_are_read(tmp_path, wiki):
    first = make(tmp_path, wiki)
    again = make(tmp_path, first.folder, folder="again", format="tfds")
    assert again.account["raw"] == first.counts["train"] + first.counts["dev"]
    assert sorted(all_texts(again)) == sorted(all_texts(first))
    assert again.counts == first.counts


def test_of_a_labelled_set_the_texts_are_read_but_not_those_of_test(tmp_path, write):
    from tfmodel.data import DataSettings, prepare

    lines = "".join(f"{document(seed, lines=1)}\t{'ab'[seed % 2]}\n" for seed in range(40))
    rows = write("rows.tsv", f"text\tlabel\n{lines}")
    labelled = prepare(DataSettings(train=str(rows)), tmp_path / "labelled", seed=1)
    corpus = make(tmp_path, labelled.folder)
    assert corpus.counts == {"train": labelled.counts["train"], "dev": labelled.counts["dev"]}
    assert not set(all_texts(corpus)) & set(labelled.split("test").texts)


def test_blank_lines_are_no_lines_that_others_have(tmp_path, write):
    texts = [f"{document(n)}\n\n \n{document(100 + n)}" for n in range(30)]
    path = write("a.jsonl", "\n".join(json.dumps({"text": text}) for text in texts))
    corpus = make(tmp_path, path, cleaning=DocumentCleaningSettings(whitespace=False))
    assert sorted(all_texts(corpus)) == sorted(texts)
    assert corpus.account["lines"]["shared"] == {"lines": 0, "characters": 0, "examples": []}


# --- mistakes and accidents -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "a.txt: expected rows of text. Received: an empty file"),
        ("a.txt", "caf\xe9 au lait\n".encode("latin-1") * 40, "corpus.encoding=.*command line"),
        ("a.jsonl.gz", gzip.compress(json.dumps({"text": "x " * 900}).encode() * 9, mtime=0)[:60],
         "a.jsonl.gz: expected a complete archive"),
        ("a.jsonl", b'{"body": "x"}\n', "expected a column text .corpus.text.. Received: body"),
        ("a.txt", b"short\nlines\n" * 30, "60 too_short.*corpus.documents"),
        ("a.txt", document(1, lines=1).encode(), "two documents at least, one for dev"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_in_the_words_of_the_config(tmp_path, write, name, content, said):
    path = write(name, content)
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        make(tmp_path, path)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "content", "advised"),
    [
        ("a.csv", "id,content\n1,x\n", "by `text: COLUMN` under `corpus:`; .*line with names"),
        ("a.csv", "text\tb;1\n1,x\n", "Check `format:` under `corpus:`"),
        ("a.jsonl", json.dumps({"text": "same line\n" * 40}), "corpus.cleaning.repetitive=false"),
        ("a.txt", "\0" * 900, "space or control characters alone: check the path"),
        ("a.json", "[1, 2]", "Check `format:` and `records:` under `corpus:`"),
        ("a.jsonl", "[1, 2]\n[3, 4]\n", "this is a list\\)"),
    ],
)
def test_a_mistake_names_no_key_that_a_corpus_has_not(tmp_path, write, name, content, advised):
    with pytest.raises(ConfigError, match=advised) as caught:
        make(tmp_path, write(name, content))
    for key in ("columns:", "delimiter:", "max_rows", "quoting:", "target:", "label"):
        assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", 'ann@example.com 4111 1111 1111 1111 {"text":\n{"text": "b"}\n'),
        ("a.json", '[{"text": "x"} ann@example.com'),
        ("a.json", "ann@example.com"),
        ("a.txt", '<doc id="1" url="" title="x">\nx\n</doc>\n' + "ann@example.com is here\n" * 900),
        ("a.csv", "4111 1111 1111 1111,ann@example.com\n2,b\n"),
        ("a.csv", "ann@example.com;4111 1111 1111 1111;text\n2;b;c\n"),
        ("a.jsonl", '{"ann@example.com": 1}\n'),
    ],
)
@pytest.mark.parametrize("skip", [False, True])
def test_no_message_shows_what_is_private(tmp_path, write, name, content, skip, caplog):
    needs.package("phonenumbers")
    needs.package("stdnum")
    chosen = {"format": "json"} if name == "a.json" else {}
    with pytest.raises(ConfigError, match="expected") as caught:
        make(tmp_path, write(name, content), privacy=True, skip_damaged=skip, **chosen)
    for shown in ("ann", "4111", "1111"):
        assert shown not in str(caught.value).replace(str(tmp_path), "") + caplog.text.replace(
            str(tmp_path), ""
        )


@pytest.mark.parametrize("kind", ["jsonl", "text"])
def test_a_folder_is_all_files_below_it_whatever_the_format(tmp_path, write, kind, caplog):
    for number in range(4):
        texts = [document(number * 20 + each, lines=1) for each in range(10)]
        lines = [json.dumps({"text": text}) if kind == "jsonl" else text for text in texts]
        write(f"in/{number}/part", "\n".join(lines))
    os.symlink("/nowhere", tmp_path / "in/gone")
    os.symlink("..", tmp_path / "in/0/up")
    corpus = make(tmp_path, tmp_path / "in", format=kind)
    assert corpus.account["raw"] == 40
    assert "passed over: 0/up, gone (2 in all)" in caplog.text


def test_an_empty_folder_and_none_at_all(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match="expected files of documents. Received: a folder with"):
        make(tmp_path, tmp_path / "none")
    told = (
        r"folder of documents\. Received: a path where there is none.*corpus.train and corpus.dev"
    )
    with pytest.raises(ConfigError, match=told):
        make(tmp_path, tmp_path / "nowhere")


def test_damaged_files_are_passed_over_where_that_is_wanted(tmp_path, write, caplog):
    def packed(start):
        lines = (json.dumps({"text": document(seed)}) for seed in range(start, start + 20))
        return gzip.compress("\n".join(lines).encode())

    write("in/0.jsonl.gz", b"")
    write("in/1.jsonl.gz", packed(0))
    write("in/2.jsonl.gz", packed(20)[:-200])
    write("in/3.jsonl.gz", packed(40))
    write("in/4.jsonl", json.dumps({"text": document(60)}) + '\n{"text": "cut in the mid')
    with pytest.raises(ConfigError, match="in/0.jsonl.gz"):
        make(tmp_path, tmp_path / "in")
    corpus = make(tmp_path, tmp_path / "in", skip_damaged=True)
    assert corpus.account["dropped"] == {"damaged_file": 2, "malformed": 1}
    assert 41 <= corpus.account["kept"] < 61
    told = {entry["origin"]: entry.get("detail") for entry in dropped(corpus)}
    assert "expected a complete archive" in told["2.jsonl.gz"]
    assert corpus.account["files"][0]["damaged_files"] == 2
    assert "what follows is left out" in caplog.text


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.gz"])
def test_what_could_be_read_of_a_small_damaged_file_stays(tmp_path, write, name):
    texts = [document(seed, lines=1) for seed in range(100)]
    lines = [json.dumps({"text": text}) if "json" in name else text for text in texts]
    packed = gzip.compress("\n".join(lines).encode())
    path = write(name, packed[: len(packed) // 2])
    corpus = make(tmp_path, path, skip_damaged=True)
    assert corpus.account["dropped"] == {"damaged_file": 1}
    kept = all_texts(corpus)
    assert len(kept) > 30 and set(kept) == set(texts[: len(kept)])


def test_mixed_encodings(tmp_path, write):
    """Each file in an encoding of its own, and one that mixes two on its lines."""
    texts = [f"{document(seed, lines=1)} Übergrößen für Bücher, café." for seed in range(60)]
    write("in/a.txt", "\n".join(texts[:20]))
    write("in/b.txt", "\n".join(texts[20:40]).encode("cp1252"))
    mixed = [text.encode("cp1252" if n % 2 else "utf-8") for n, text in enumerate(texts[40:])]
    write("in/c.txt", b"\n".join(mixed))
    with pytest.raises(ConfigError, match="b.txt.*not in this|b.txt: expected text in utf-8"):
        make(tmp_path, tmp_path / "in")
    corpus = make(tmp_path, tmp_path / "in", encoding="detect", near_duplicates=None)
    assert sorted(all_texts(corpus)) == sorted(texts)


@pytest.mark.parametrize("megabytes", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_a_document_of_50_mb_is_cut_and_kept(tmp_path, write, megabytes):
    lines = [document(seed, words=3_000, lines=1) for seed in range(30)]
    numbered = (f"{number} {lines[number % 30]}" for number in range(megabytes * 75))
    long = "\n".join(numbered)
    assert len(long) > megabytes * 1e6
    path = write("a.jsonl", json.dumps({"text": long}) + "\n" + json.dumps({"text": document(1)}))
    off = DocumentCleaningSettings(repetitive=False)
    none = LineSettings(shared=None, repeated=None)
    corpus = make(
        tmp_path, path, cleaning=off, lines=none, near_duplicates=None, max_characters=1_000_000
    )
    texts = all_texts(corpus)
    assert max(map(len, texts)) <= 1_000_000
    assert sum(map(len, texts)) == pytest.approx(len(long), rel=0.01)
    whole = {f"{number} {lines[number % 30]}" for number in range(megabytes * 75)}
    assert {text.split("\n")[0] for text in texts} <= {*whole, document(1).split("\n")[0]}
    assert corpus.account["raw"] == len(texts)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A file of which there are several parts, and what an undisturbed process makes of it."""
    folder = tmp_path_factory.mktemp("many")
    path = folder / "train.jsonl"
    with open(path, "w") as file:
        for seed in range(3_000):
            file.write(json.dumps({"text": document(seed % 2_900, words=60)}) + "\n")
    whole = make(folder, path)
    return path, contents(whole.folder)


SCRIPT = """
import functools, resource, sys
from tfmodel.data.parts import reading
reading.in_batches = functools.partial(reading.in_batches, most_rows=500)
from tfmodel.data.corpus import CorpusSettings, prepare_corpus
if len(sys.argv) > 4:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
try:
    prepare_corpus(CorpusSettings(train=sys.argv[1], workers=int(sys.argv[3])), sys.argv[2], seed=1)
except OSError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["cleaned/part-000001", "finished/part-000001", "partial"])
def test_killed_at_any_stage_it_goes_on(many, tmp_path, stage, caplog, monkeypatch):
    monkeypatch.setattr(reading, "in_batches", functools.partial(reading.in_batches, most_rows=500))
    path, whole = many
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path), str(out), "1"], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120

    def is_there():
        if stage == "partial":
            return any(tmp_path.glob(".out.partial*/dataset-*"))
        return (tmp_path / ".out.work" / stage).exists()

    while not is_there() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL and not out.exists()
    with pytest.raises(ConfigError):
        load_corpus(out)
    with caplog.at_level("INFO", "tfmodel"):
        corpus = make(tmp_path, path)
    assert "documents were read and cleaned before" in caplog.text
    assert contents(corpus.folder) == whole


def test_what_another_version_left_half_made_is_made_anew(tmp_path, write, monkeypatch, caplog):
    from tfmodel.data.corpus import prepare

    path = write("a.txt", "\n".join(document(seed, lines=1) for seed in range(30)))

    def stopped(*given, **chosen):
        raise KeyboardInterrupt

    def begin_and_go_on(version):
        with monkeypatch.context() as patch:
            patch.setattr(prepare, "judge_lines", stopped)
            with pytest.raises(KeyboardInterrupt):
                make(tmp_path, path)
        monkeypatch.setattr(prepare, "__version__", version)
        caplog.clear()
        with caplog.at_level("INFO", "tfmodel"):
            make(tmp_path, path)
        return "documents were read and cleaned before" in caplog.text

    assert begin_and_go_on(prepare.__version__)
    assert not begin_and_go_on("another")


@pytest.mark.parametrize("limit", [100_000, 600_000])
def test_a_full_disk_is_said_with_what_to_do(many, tmp_path, limit):
    """A limit on the size of files fails writing as a full disk does: parts, then shards."""
    path, _ = many
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(tmp_path / "out"), "0", str(limit)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "expected room on the disk to write out" in done.stdout, done.stderr
    assert "then run the same command again" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_corpus_is_refused(tmp_path, wiki):
    corpus = make(tmp_path, wiki)
    shard = next(corpus.folder.glob("dataset-train*"))
    os.truncate(shard, shard.stat().st_size - 100)
    with pytest.raises(ConfigError, match="expected a complete dataset"):
        load_corpus(corpus.folder)
