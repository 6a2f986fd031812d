"""The stage `tokens`: the corpus as token ids on disk."""

from __future__ import annotations

import itertools
import logging
import re

from tfmodel.run_folder import Run
from tfmodel.stages.context import Context, Stage
from tfmodel.stages.vocabulary import tokenizer_of

_log = logging.getLogger(__name__)

_SPLITS = ("train", "dev")
_WITH_SENTENCES = ("nsp", "sop", "simcse")
# Chinese characters; from this share on a word is what a segmenter says.
_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_CHINESE_SHARE = 0.3
_LOOKED_AT_DOCUMENTS = 200


def _tokens_inputs(context: Context) -> dict:
    objective = context.settings.objective
    return {
        "sentences": objective.name in _WITH_SENTENCES,
        "whole words": _wants_words(objective),
    }


def _wants_words(objective) -> bool:
    return getattr(objective, "whole_words", False) or getattr(objective, "spans", False)


def _write_tokens(context: Context) -> None:
    from tfmodel.data.corpus import load_corpus
    from tfmodel.tokens.token_documents import write_token_documents

    run, objective = context.run, context.settings.objective
    corpus = load_corpus(run.folder / "corpus")
    tokenizer = tokenizer_of(run.folder)
    words = None
    if _wants_words(objective):
        words = _kind_of_words(itertools.islice(corpus.texts("dev"), _LOOKED_AT_DOCUMENTS))
    figures = {}
    for split in _SPLITS:
        documents = write_token_documents(
            corpus.texts(split),
            tokenizer,
            run.folder / TOKENS.name / split,
            words=words,
            sentences=objective.name in _WITH_SENTENCES,
            total=corpus.counts[split],
            key=context.fingerprints[TOKENS.name],
        )
        figures[split] = documents.account["tokens"]
        _log.info("tokens: %s in %s", f"{figures[split]:,}", split)
    run.update_metrics("tokens", {**figures, "words": words or "pieces"})


def _kind_of_words(texts) -> str | None:
    """`jieba` where much of the text is Chinese, which has no spaces between words."""
    letters = chinese = 0
    for text in texts:
        letters += sum(map(str.isalpha, text))
        chinese += len(_CHINESE.findall(text))
    share = chinese / max(letters, 1)
    if share < _CHINESE_SHARE:
        return None
    _log.info("words: by jieba, as %.0f%% of the letters are Chinese", 100 * share)
    return "jieba"


def _are_written(run: Run) -> bool:
    return all((run.folder / "tokens" / split / "tokens.json").exists() for split in _SPLITS)


TOKENS = Stage(
    "tokens",
    _tokens_inputs,
    _write_tokens,
    _are_written,
    after=lambda settings: "vocabulary",
    metrics=("tokens",),
    part_of="pretrain",
)
