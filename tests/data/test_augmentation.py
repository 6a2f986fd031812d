"""New versions of training rows: what each method may do, and that a row's depend on it alone."""

from __future__ import annotations

import collections
import dataclasses
import difflib
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfmodel.config import ConfigError
from tfmodel.data.augmentation import METHODS, AugmentSettings, augment, augment_split
from tfmodel.data.augmentation.methods import MASK
from tfmodel.data.augmentation.passage import Passage, by_longest_match
from tfmodel.data.augmentation.synonyms import read_synonyms
from tfmodel.data.dataset import Split

ENGLISH = [
    "The kettle, which nobody had repaired, whistled through breakfast (again)!",
    "which ferry leaves Harwich after midnight ?",
    "a warm and generous little film 's finest hour",
    "kettle",
]
CHINESE = ["这家饭馆的汤很好喝，服务也热情。", "我用 BERT 模型做分类", "好看"]
ODD = ["?!", "42", "héllo wörld", "हिन्दी में लिखा है", "one\ttwo\nthree four"]
TEXTS = [*ENGLISH, *CHINESE, *ODD]

SYNONYMS = (
    "kettle\tpot\tboiler\nferry\tboat\nfilm\tmovie\n饭馆\t餐厅\n好看\t漂亮\n热情\t周到\n"
    "hello\they\ntwo\ttwain\n"
)


def propose(masked: list[str], words: list[str]) -> list[list[str]]:
    """A masked model's part: candidates for each place, the hidden word among them."""
    return [[word, f"{word}ish", f"un{word}"] for word in words]


def shout(texts: list[str]) -> list[str]:
    """A translator's part: another text for each."""
    return [f"so to say {text}" for text in texts]


# What a method needs, and the texts in which it finds nothing to do.
WITHOUT_LONG_WORDS = {*CHINESE, *ODD} - {"我用 BERT 模型做分类", "héllo wörld", ODD[4]}
CONTRACTS = {
    "deletion": ({}, {"kettle", "?!", "42"}),
    "swap": ({}, {"kettle", "?!", "42"}),
    "insertion": ({}, {"?!"}),
    "typos": ({}, WITHOUT_LONG_WORDS),
    "keyboard": ({}, WITHOUT_LONG_WORDS),
    "synonyms": ({}, {"我用 BERT 模型做分类", *ODD[:4]}),
    "replacement": ({"replace": propose}, {"?!"}),
    "back_translation": ({"translate": shout}, set()),
}


@pytest.fixture
def synonyms(tmp_path):
    """A list of synonyms."""
    path = tmp_path / "synonyms.tsv"
    path.write_text(SYNONYMS, "utf-8")
    return str(path)


@pytest.fixture
def settings_of(synonyms):
    """Settings with one method, and the list where that needs one."""

    def make(method: str, **others) -> AugmentSettings:
        others = ({"synonyms": synonyms} if method == "synonyms" else {}) | others
        return AugmentSettings(methods=[method], **others)

    return make


def versions(texts, settings, **others) -> dict[str, list[str]]:
    """New versions by the text they were made of."""
    new = augment(texts, settings, seed=others.pop("seed", 5), **others)
    found = {text: [] for text in texts}
    for text, source in zip(new.texts, new.sources, strict=True):
        found[texts[source]].append(text)
    return found


# --- what all methods keep ----------------------------------------------------------------------


def test_every_method_has_its_contract():
    assert set(CONTRACTS) == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_method_contract(method, settings_of):
    callables, untouched = CONTRACTS[method]
    settings = settings_of(method, copies=3)
    found = versions(TEXTS, settings, **callables)
    assert {text for text, new in found.items() if not new} == untouched
    for text, new in found.items():
        assert all(version.strip() and version == version.strip() for version in new)
        assert text not in new and len(set(new)) == len(new)
    # A row's versions do not depend on the rows beside it, nor on their order.
    for text in TEXTS:
        assert versions([text], settings, **callables)[text] == found[text]
    assert versions(TEXTS[::-1], settings, **callables) == found
    # More copies leave the earlier ones as they are.
    assert all(
        new[: len(found[text])] == found[text]
        for text, new in versions(TEXTS, settings_of(method, copies=4), **callables).items()
    )
    # Another seed makes others, but for a callable, whose answers are its own.
    if method != "back_translation":
        assert versions(TEXTS, settings, seed=6, **callables) != found


def test_versions_are_the_same_on_every_machine(settings_of):
    text = ENGLISH[1]
    found = {
        method: versions([text], settings_of(method))[text][0]
        for method in ("deletion", "swap", "insertion", "typos", "keyboard", "synonyms")
    }
    assert found == {
        "deletion": "which ferry leaves Harwich after ?",
        "swap": "which ferry leaves after Harwich midnight ?",
        "insertion": "which ferry ferry leaves Harwich after midnight ?",
        "typos": "whcih ferry leaves Harwich after midnight ?",
        "keyboard": "which ferry leaves Harwich afrer midnight ?",
        "synonyms": "which boat leaves Harwich after midnight ?",
    }


def test_each_method_makes_its_own_copies_of_each_row():
    settings = AugmentSettings(methods=["swap", "typos"], copies=2)
    new = augment(ENGLISH[:2], settings, seed=0)
    assert new.made_by == ["swap 1", "swap 2", "typos 1", "typos 2"] * 2
    assert new.sources.tolist() == [0] * 4 + [1] * 4
    assert new.text_pairs is None


# --- what each does --------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "deleted"), [(0.01, 1), (0.3, 3), (1.0, 9)])
def test_deletion_leaves_out_the_share_and_never_all(rate, deleted):
    text = ENGLISH[0]
    [version] = versions([text], AugmentSettings(methods=["deletion"], rate=rate))[text]
    before, after = Passage.of(text).words, Passage.of(version).words
    assert len(before) == 10 and len(after) == 10 - deleted
    rest = iter(before)
    assert all(word in rest for word in after)  # in their order
    assert "  " not in version and " ," not in version


def test_swap_keeps_words_and_punctuation():
    text = ENGLISH[0]
    [version] = versions([text], AugmentSettings(methods=["swap"], rate=0.3))[text]
    before, after = Passage.of(text), Passage.of(version)
    assert collections.Counter(before.words) == collections.Counter(after.words)
    assert before.words != after.words and before.gaps == after.gaps


def test_insertion_adds_a_word_of_the_text():
    text = ENGLISH[1]
    [version] = versions([text], AugmentSettings(methods=["insertion"]))[text]
    before, after = Passage.of(text).words, Passage.of(version).words
    assert len(after) == len(before) + 1 and set(after) == set(before)


def test_insertion_adds_a_synonym_where_the_list_has_one(synonyms):
    settings = AugmentSettings(methods=["insertion"], synonyms=synonyms)
    found = versions([ENGLISH[1], CHINESE[1]], settings)
    assert "boat" in found[ENGLISH[1]][0].split()
    assert len(found[CHINESE[1]][0]) > len(CHINESE[1])  # none in the list: a word of its own


def test_typos_are_slips_inside_longer_words():
    kinds = set()
    for seed in range(40):
        [version] = versions([ENGLISH[1]], AugmentSettings(methods=["typos"]), seed=seed).values()
        if not version:  # two equal letters exchanged
            continue
        pairs = zip(ENGLISH[1].split(), version[0].split(), strict=True)
        [(before, after)] = [pair for pair in pairs if pair[0] != pair[1]]
        assert len(before) >= 4 and before[0] == after[0] and before[-1] == after[-1]
        kinds.add(len(after) - len(before))
        if len(after) == len(before):
            assert sorted(after) == sorted(before)
        else:
            assert abs(len(after) - len(before)) == 1
    assert kinds == {-1, 0, 1}


def test_keyboard_slips_hit_a_neighbouring_key():
    neighbours = {"d": set("erfcxs"), "i": set("uojk"), "g": set("tyhbvf"), "h": set("yujnbg")}
    seen = collections.defaultdict(set)
    for seed in range(200):
        for version in versions(["midnight"], AugmentSettings(methods=["keyboard"]), seed=seed)[
            "midnight"
        ]:
            [(before, after)] = [
                pair for pair in zip("midnight", version, strict=True) if pair[0] != pair[1]
            ]
            seen[before].add(after)
    assert {key: seen[key] for key in neighbours} == neighbours
    assert "m" not in seen and "t" not in seen


def test_synonyms_keep_capitals_and_punctuation(settings_of):
    found = versions(
        ["Kettle, please.", "KETTLE!", CHINESE[0], "no word of it"],
        settings_of("synonyms", rate=1.0),
    )
    assert found["Kettle, please."][0] in ("Pot, please.", "Boiler, please.")
    assert found["KETTLE!"][0] in ("POT!", "BOILER!")
    assert found[CHINESE[0]] == ["这家餐厅的汤很好喝，服务也周到。"]
    assert found["no word of it"] == []


def test_replacement_hides_one_word_at_a_time():
    calls = []

    def replace(masked, words):
        calls.append((masked, words))
        return [["Harwich", "x"] if word == "Harwich" else ["oddly"] for word in words]

    settings = AugmentSettings(methods=["replacement"], rate=1.0)
    [version] = versions([ENGLISH[1]], settings, replace=replace)[ENGLISH[1]]
    [(masked, words)] = calls
    assert sorted(words) == sorted(Passage.of(ENGLISH[1]).words)
    for text, word in zip(masked, words, strict=True):
        assert text.count(MASK) == 1 and text.replace(MASK, word) == ENGLISH[1]
    assert version == "oddly oddly oddly X oddly oddly ?"  # the word itself is no candidate


def test_callables_are_given_small_batches():
    sizes = []

    def translate(texts):
        sizes.append(len(texts))
        return shout(texts)

    texts = [f"row number {number}" for number in range(600)]
    augment(texts, AugmentSettings(methods=["back_translation"]), seed=0, translate=translate)
    assert sizes == [256, 256, 88]


def test_segmenter_keeps_chinese_words_whole():
    def segment(run):
        return [run[start : start + 2] for start in range(0, len(run), 2)]

    settings = AugmentSettings(methods=["swap"])
    text = "天气晴朗"
    assert versions([text], settings, segment=segment)[text] == ["晴朗天气"]


def test_longest_known_word_is_taken():
    segment = by_longest_match(["上海", "上海市", "市长", "a", "film"])
    assert segment("上海市长") == ["上海市", "长"]


# --- rows, splits, labels -------------------------------------------------------------------


def split(texts, labels, pairs=None) -> Split:
    origins = [f"train.csv:{row + 2}" for row in range(len(texts))]
    return Split(list(texts), pairs, np.array(labels, np.int32), origins)


def test_labels_and_origins_follow():
    train = split(ENGLISH[:3], [2, 0, 1])
    new = augment_split(train, AugmentSettings(methods=["swap"], copies=2), seed=1)
    assert new.texts[:3] == ENGLISH[:3] and len(new.texts) == 9
    assert new.labels.tolist() == [2, 0, 1, 2, 2, 0, 0, 1, 1]
    assert new.labels.dtype == np.int32
    assert new.origins[3:5] == ["train.csv:2 (swap 1)", "train.csv:2 (swap 2)"]
    assert train.texts == ENGLISH[:3]  # as it was


def test_labels_of_several_classes_follow():
    train = dataclasses.replace(split(ENGLISH[:2], [0, 0]), labels=[["a", "b"], []])
    new = augment_split(train, AugmentSettings(methods=["swap"]), seed=1, target="classes")
    assert new.labels == [["a", "b"], [], ["a", "b"], []]


def test_no_version_stands_in_another_split(caplog):
    train, test = split(["good soup today"], [1]), split(["Soup  today", "good today"], [1, 1])
    settings = AugmentSettings(methods=["deletion"], copies=60)
    with caplog.at_level("INFO", logger="tfmodel"):
        new = augment_split(train, settings, seed=1, apart=[test])
    assert new.texts[1:] == ["good soup"]
    assert "1 rows and 1 new ones" in caplog.text and "59 of deletion" in caplog.text


def test_version_of_one_row_that_is_another_row_is_left_out():
    new = augment(["a b", "B A"], AugmentSettings(methods=["swap"]), seed=0)
    assert new.texts == [] and new.left_out == {"swap": 2}


def test_pairs_are_changed_together():
    texts, pairs = ["the kettle whistled", "x"], ["did the kettle whistle", "nobody knows that"]
    new = augment(texts, AugmentSettings(methods=["swap"]), seed=0, text_pairs=pairs)
    assert new.sources.tolist() == [0, 1]
    assert new.texts[0] != texts[0] and new.text_pairs[0] != pairs[0]
    assert new.texts[1] == "x" and new.text_pairs[1] != pairs[1]
    both = augment_split(split(texts, [0, 1], pairs), AugmentSettings(methods=["swap"]), seed=0)
    assert both.text_pairs == [*pairs, *new.text_pairs]


def test_empty_translations_are_left_out_and_counted():
    new = augment(
        ["a b", "c d"],
        AugmentSettings(methods=["back_translation"]),
        seed=0,
        translate=lambda texts: [" ", "c e"],
    )
    assert new.texts == ["c e"] and new.left_out == {"back_translation": 1}


def test_no_rows():
    new = augment([], AugmentSettings(methods=["swap", "replacement"]), seed=0, replace=propose)
    assert new.texts == [] and new.sources.shape == (0,)


# --- the words of a text ------------------------------------------------------------------------


@given(st.text(), st.randoms(use_true_random=False))
def test_any_text_is_put_together_as_it_was(text, random: random.Random):
    passage = Passage.of(text)
    assert passage.text() == text
    assert all(word and not word.isspace() for word in passage.words)
    words = range(len(passage.words))
    gone = set(random.sample(words, len(words) // 2))
    kept = [word for place, word in enumerate(passage.words) if place not in gone]
    assert list(passage.without(gone).words) == kept


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('It\'s, "well" -- fine.', ["It's", "well", "fine"]),
        ("film 's best", ["film", "'s", "best"]),
        ("state-of-the-art!", ["state-of-the-art"]),
        ("用BERT做", ["用", "BERT", "做"]),
        ("かな漢字", ["か", "な", "漢", "字"]),
        ("…?!", []),
    ],
)
def test_words_are_found(text, words):
    assert list(Passage.of(text).words) == words


@pytest.mark.parametrize(
    ("text", "gone", "left"),
    [
        ("The soup, was cold.", {1}, "The, was cold."),
        ("The soup, was cold.", {0}, " soup, was cold."),
        ("The soup, was cold.", {3}, "The soup, was."),
        ("A模B", {1}, "A B"),
        ("很好，吃", {1}, "很，吃"),
    ],
)
def test_spaces_close_behind_a_word_left_out(text, gone, left):
    assert Passage.of(text).without(gone).text() == left


# --- mistakes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": []}, "at least 1 item"),
        ({"methods": ["shuffle"]}, "'deletion', 'swap'"),
        ({"methods": ["swap", "swap"]}, "names a method twice"),
        ({"methods": ["synonyms"]}, "name its file by synonyms: FILE"),
        ({"methods": ["swap"], "synonyms": "list.tsv"}, "a list that no method uses"),
        ({"methods": ["swap"], "rate": 0}, "greater than 0"),
        ({"methods": ["swap"], "copies": 0}, "greater than or equal to 1"),
    ],
)
def test_wrong_settings(values, message):
    with pytest.raises(ValueError, match=message):
        AugmentSettings(**values)


def test_config_cannot_name_callables():
    settings = AugmentSettings(methods=["swap", "back_translation"])
    with pytest.raises(ValueError, match=r"needs a callable \(translate\) that only Python"):
        settings.check_in_config("class")


@pytest.mark.parametrize("target", ["tags", "spans", "answers"])
def test_labels_that_name_places_do_not_survive(target):
    settings = AugmentSettings(methods=["swap"])
    settings.check_in_config("class")
    with pytest.raises(ValueError, match=f"with target {target} labels name places"):
        settings.check_in_config(target)
    with pytest.raises(ConfigError, match=f"Received: target {target}"):
        augment_split(split(["a b"], [0]), settings, seed=0, target=target)


@pytest.mark.parametrize(
    ("method", "name"), [("replacement", "replace"), ("back_translation", "translate")]
)
def test_callable_missing(method, name):
    with pytest.raises(ConfigError, match=f"{method} needs a callable.*{name}=…"):
        augment(["a b"], AugmentSettings(methods=[method]), seed=0)


@pytest.mark.parametrize(
    ("answer", "received"),
    [
        (lambda texts: texts[:1], "1 answers to 2 texts"),
        (lambda texts: [None, "x"], "'None' among them"),
        (lambda texts: "both", "str"),
        (lambda texts: None, "NoneType"),
    ],
)
def test_callable_that_answers_wrongly(answer, received):
    settings = AugmentSettings(methods=["back_translation"])
    with pytest.raises(ConfigError, match=f"translate: expected .* Received: {received}"):
        augment(["a b", "c d"], settings, seed=0, translate=answer)
    settings = AugmentSettings(methods=["replacement"])
    if received != "1 answers to 2 texts":
        return
    with pytest.raises(ConfigError, match="replace: expected a list with a list of words"):
        augment(["a b", "c d"], settings, seed=0, replace=lambda masked, words: ["x", "y"])


def test_segmenter_that_leaves_something_out():
    with pytest.raises(ConfigError, match=r"segment: expected words .* Received: \['天'\]"):
        augment(["天气"], AugmentSettings(methods=["swap"]), seed=0, segment=lambda run: run[:1])


def test_pairs_of_another_number():
    with pytest.raises(ConfigError, match="1 texts and 2 second texts"):
        augment(["a"], AugmentSettings(methods=["swap"]), seed=0, text_pairs=["b", "c"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.json", '{"Film": ["movie", "film", ""], "好看": ["漂亮"]}'),
        ("list.tsv", "# of mine\nFilm\tmovie\n\n好看\t漂亮\t\n"),
        ("list.txt", "\ufefffilm, movie\n好看，漂亮\n"),
    ],
)
def test_forms_of_a_list(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content, "utf-8")
    found = read_synonyms(path)
    assert found["film"] == ("movie",) and found["好看"] == ("漂亮",)
    assert ("movie" in found) == name.endswith(".txt")  # only there both ways


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.json", b'{"a": ["b"]', "expected JSON. Received:"),
        ("list.json", b'["a", "b"]', "Received: a JSON list"),
        ("list.json", b'{"a": "b"}', "expected a list of words for 'a'. Received: 'b'"),
        ("list.tsv", b"a\tb\nc d\n", r"line 2: expected word<TAB>other. Received: 'c d'"),
        ("list.txt", b"a, b\n\nc d\n", "line 3: expected words of one meaning"),
        ("list.txt", b"", "no word with another beside it"),
        ("list.tsv", b"a\ta\n", "no word with another beside it"),
        ("list.tsv", "é\tè".encode("latin-1"), "expected UTF-8 text. Received: byte 0"),
    ],
)
def test_wrong_list(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as raised:
        read_synonyms(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))
    assert str(raised.value).endswith("by data.augment.synonyms.")


@pytest.mark.parametrize(
    ("path", "received"), [("none.tsv", "where there is none"), (".", "a folder")]
)
def test_no_list(tmp_path, path, received):
    with pytest.raises(ConfigError, match=received):
        read_synonyms(tmp_path / path)


def test_similar_texts_stay_recognizable():
    """A default setting changes one word in ten: labels would not hold otherwise."""
    settings = AugmentSettings(methods=["deletion", "swap", "insertion", "typos", "keyboard"])
    for text, new in versions(ENGLISH[:3], settings).items():
        for version in new:
            assert difflib.SequenceMatcher(None, text, version).ratio() > 0.6
