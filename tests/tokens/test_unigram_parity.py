"""SentencePiece's own models, real text and characters of every kind, against transformers.

Needs the extra `parity` (transformers, sentencepiece); for real text, the real data of this
project's developers.
"""

import importlib
import random
import unicodedata
from types import SimpleNamespace

import needs
import pytest
import small_unigrams
import tensorflow as tf
from test_tokenizer_parity import FILES, read_lines

from tfmodel.tokens import letter_tables, load_tokenizer

pytestmark = pytest.mark.slow

AT_ONCE = 4096
CODES = [code for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
CHARACTERS = [chr(code) for code in CODES if unicodedata.category(chr(code)) not in ("Cn", "Co")]
JOINING = list("\u0301\u0308\u200d\ufe0f\u0327\u093c\u302a\u0600\r\n")
OF_ALBERT = {
    "pad_id": 0,
    "unk_id": 1,
    "bos_id": -1,
    "eos_id": -1,
    "control_symbols": "[CLS],[SEP],[MASK]",
}
# name: (file, class, how it is trained)
MODELS = {
    "xlm-roberta": ("sentencepiece.bpe.model", "XLMRobertaTokenizer", {}),
    "xlm-roberta, nfkc": (
        "sentencepiece.bpe.model",
        "XLMRobertaTokenizer",
        {"normalization_rule_name": "nfkc_cf"},
    ),
    "albert": ("spiece.model", "AlbertTokenizer", OF_ALBERT),
}


def made_up(count, *, seed=0):
    """Lines of invented words, of Latin letters with accents and of Chinese."""
    draw = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgkqjxz" * 3 + "éüñçøß" + "ABCDEFG"
    words = ["".join(draw.choices(letters, k=draw.randint(1, 9))) for _ in range(3000)]
    words += ["".join(draw.choices("的一是不了人我在有他这中大来上国", k=4)) for _ in range(500)]
    weights = [1 / (place + 1) for place in range(len(words))]
    return [" ".join(draw.choices(words, weights, k=12)) + "." for _ in range(count)]


@pytest.fixture(scope="module")
def transformers():
    module = needs.package("transformers")
    module.logging.set_verbosity_error()
    return module


@pytest.fixture(scope="module", params=MODELS)
def folder(request, transformers, tmp_path_factory):
    """A model trained by SentencePiece itself, in its file alone."""
    sentencepiece = needs.package("sentencepiece")
    file, name, options = MODELS[request.param]
    place = tmp_path_factory.mktemp("model")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(made_up(4000)),
        model_prefix=str(place / "new"),
        vocab_size=3000,
        model_type="unigram",
        minloglevel=2,
        num_threads=1,
        **{"normalization_rule_name": "nmt_nfkc", **options},
    )
    (place / "new.vocab").unlink()
    (place / "new.model").rename(place / file)
    # It asks sentencepiece for the schema, which wants a newer protobuf than TensorFlow has.
    schema = importlib.import_module("transformers.utils.sentencepiece_model_pb2_new")
    converters = importlib.import_module("transformers.convert_slow_tokenizer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(converters, "import_protobuf", lambda *_: schema)
        theirs = getattr(transformers, name).from_pretrained(place)
    return SimpleNamespace(place=place, theirs=theirs, ours=load_tokenizer(place))


def check_same(folder, texts):
    special = folder.theirs.all_special_tokens
    texts = [text for text in texts if not any(piece in text for piece in special)]
    library = folder.theirs.backend_tokenizer
    for start in range(0, len(texts), AT_ONCE):
        chunk = texts[start : start + AT_ONCE]
        found = folder.ours.tokenize_with_offsets(tf.constant([text.encode() for text in chunk]))
        wanted = library.encode_batch(chunk, add_special_tokens=False)
        rows = zip(chunk, *(each.to_list() for each in found), wanted, strict=True)
        for text, ids, starts, ends, each in rows:
            assert ids == each.ids, text
            bounds = zip(starts, ends, strict=True)
            assert all(0 <= start <= end <= len(text) for start, end in bounds), text
            assert starts == sorted(starts), text


def test_invented_and_odd_texts(folder):
    check_same(folder, [*made_up(300, seed=1), *small_unigrams.TEXTS])
    draw = random.Random(0)
    pools = [CHARACTERS, [c for c in CHARACTERS if ord(c) < 0x3000] + JOINING * 200]
    pools.append(JOINING * 3 + list("abc éｅﬁ①\u00a0가"))
    texts = ["".join(draw.choices(draw.choice(pools), k=draw.randint(1, 40))) for _ in range(3000)]
    check_same(folder, texts)


def test_each_character_beside_others(folder):
    step = 1 if folder.ours.has_segments else 3
    characters = random.Random(0).sample(CHARACTERS, len(CHARACTERS) // step)
    check_same(folder, [f"a{c}b {c}\u0301{c}" for c in characters])


def test_what_is_saved_is_theirs(folder, transformers, tmp_path):
    folder.ours.save(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert type(again) is type(folder.theirs)
    texts, pairs = made_up(20, seed=2), made_up(20, seed=3)
    asked = again(texts, pairs, padding=True, truncation=True, max_length=30)
    batch = folder.ours(texts, pairs, max_length=30)
    assert asked["input_ids"] == batch["token_ids"].numpy().tolist()
    assert asked["attention_mask"] == batch["padding_mask"].numpy().tolist()
    if folder.ours.has_segments:
        assert asked["token_type_ids"] == batch["segment_ids"].numpy().tolist()
    # And what they save is ours.
    folder.theirs.save_pretrained(tmp_path / "theirs")
    loaded = load_tokenizer(tmp_path / "theirs")
    assert loaded.vocabulary == folder.ours.vocabulary
    assert loaded.splitting.normalizers == folder.ours.splitting.normalizers


@pytest.mark.parametrize("data", FILES)
def test_real_lines_have_the_same_ids(folder, data):
    check_same(folder, read_lines(data)[3::20])


def test_letters_are_as_their_tables_have_them():
    normalizers = needs.package("tokenizers").normalizers
    taken_apart = [normalizers.NFKD(), normalizers.StripAccents()]
    lower = normalizers.Lowercase()
    for steps, table in (
        (taken_apart, letter_tables.without_accents(lowercase=False)),
        ([*taken_apart, lower], letter_tables.without_accents(lowercase=True)),
        ([lower], letter_tables.lower_case()),
    ):
        theirs = normalizers.Sequence(steps)
        characters = map(chr, CODES)
        assert not [c for c in characters if theirs.normalize_str(c) != table.get(c, c)]
