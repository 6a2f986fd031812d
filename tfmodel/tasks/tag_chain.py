"""A linear-chain CRF over the words of a text: how likely each tag follows another is learned.

Letters: B rows, T tokens, C tags. Only the first pieces of words are in a chain; a row may hold
chains of several texts, and none of them knows of another.

Source: Lafferty et al. 2001; over a neural network's scores Lample et al. 2016, section 2.
Deviation: what the scheme of tags forbids has no probability, in training as in answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfmodel.config import ConfigError
from tfmodel.tasks.tag_rules import FORBIDDEN, Costs, rules_of

LAYER = "transitions"
"""Name of the layer by which a model's CRF is found again."""
RATE = 100.0
"""The transitions' learning rate in units of the encoder's: they begin at 0 and must reach numbers
around 1 in a few hundred steps."""
_TENSORS = ("crf.start_transitions", "crf.transitions", "crf.end_transitions")
"""What a folder calls them, in the order of `Costs`: pytorch-crf's names."""


@keras.saving.register_keras_serializable("tfmodel")
class Transitions(keras.layers.Layer):
    """How likely a tag begins a text, follows another and ends one; logits pass unchanged.

    `ChainLoss` learns them, and `decoding` is what answers are read by.

    Args:
        tags: C names, whose scheme says what may follow what.
    """

    def __init__(self, tags: Sequence[str], **kwargs):
        super().__init__(**{"name": LAYER, "dtype": "float32", **kwargs})
        self.tags = list(tags)

    def build(self, logits_shape):
        """Create C, C x C and C numbers, all 0."""
        count = len(self.tags)
        if logits_shape[-1] != count:
            raise ValueError(f"Expected {count} outputs, one a tag. Received: {logits_shape[-1]}.")
        shapes = Costs((count,), (count, count), (count,))
        for name, shape in shapes._asdict().items():
            setattr(self, name, self.add_weight(shape=shape, initializer="zeros", name=name))

    def call(self, logits):
        """The logits (B, T, C) as they are."""
        return logits

    def compute_output_shape(self, logits_shape):
        """That of the logits."""
        return logits_shape

    def costs(self) -> Costs:
        """The numbers that are added to those of words; far below all where a rule forbids it."""
        return Costs(
            *(
                ops.where(allowed, getattr(self, name), FORBIDDEN)
                for name, allowed in rules_of(self.tags)._asdict().items()
            )
        )

    def decoding(self) -> dict[str, Any]:
        """What `decode`, `served` and `evaluate` take beside the tags, as JSON values."""
        found = {
            name: ops.convert_to_numpy(value).tolist()
            for name, value in self.costs()._asdict().items()
        }
        return {"transitions": found}

    def rates(self) -> dict[str, float]:
        """By weight path, what `adamw` multiplies the learning rate with."""
        return {weight.path: RATE for weight in self.trainable_weights}

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        return {**super().get_config(), "tags": self.tags}


def transition_tensors(layer: Transitions | None) -> dict[str, np.ndarray]:
    """What a model folder keeps of a CRF: arrays by pytorch-crf's names; none without one."""
    if layer is None:
        return {}
    return dict(zip(_TENSORS, map(ops.convert_to_numpy, layer.costs()), strict=True))


def read_transitions(
    tensors: dict[str, np.ndarray], tags: Sequence[str], *, name: str
) -> Transitions | None:
    """The CRF that a folder keeps.

    Args:
        tensors: the folder's, by name; its own are taken out.
        tags: C names.
        name: what messages call it.

    Returns:
        The layer with its numbers; None where the folder has none.

    Raises:
        ConfigError: a part of it is missing, has another shape or is no number.
    """
    values = {each: tensors.pop(each) for each in _TENSORS if each in tensors}
    if not values:
        return None
    count, held = len(tags), {each: value.shape for each, value in values.items()}
    shapes = {each: (count,) * (1 + (each == _TENSORS[1])) for each in _TENSORS}
    if held != shapes or not all(np.isfinite(value).all() for value in values.values()):
        raise ConfigError(
            f"{name}: expected the CRF of {count} tags, finite numbers in "
            f"{_listed(shapes)}. Received: {_listed(held)}. Copy the folder again."
        )
    layer = Transitions(tags)
    layer.build((None, None, count))
    for each, (name, allowed) in zip(_TENSORS, rules_of(tags)._asdict().items(), strict=True):
        getattr(layer, name).assign(np.where(allowed, values[each], 0))
    return layer


def _listed(shapes: Mapping[str, tuple]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


# --- targets ------------------------------------------------------------------------------


def chained(
    tags: np.ndarray, is_word: np.ndarray, rows: np.ndarray, texts: np.ndarray, *, count: int
) -> np.ndarray:
    """What `ChainLoss` takes of each token: its tag, and its place in a chain.

    A chain is the words of a text in one row. Where a window cuts a text, the chain ends there, and
    the next one begins with whatever tag: the scores of beginning and end are for texts alone.

    Args:
        tags: int (R,), ids of tags.
        is_word: bool (R,), whether a token speaks for a word; the words of a text stand in order.
        rows: int (R,), the row of each token.
        texts: int (R,), the text of each token.
        count: number of tags C.

    Returns:
        int32 (R,): 0 for a token of no word.
    """
    tags, rows, texts = (np.asarray(each)[is_word].astype(np.int64) for each in (tags, rows, texts))
    other_text = np.diff(texts, prepend=-1, append=-1) != 0
    begins, ends = other_text[:-1], other_text[1:]
    goes_on = ~begins & (np.diff(rows, prepend=-1) == 0)
    before = np.where(goes_on, 2 + np.roll(tags, 1), begins)
    found = np.zeros(len(is_word), np.int32)
    found[is_word] = 1 + tags + count * (before + (count + 2) * ends)
    return found


class _Places(NamedTuple):
    """`chained` taken apart: (B, T) each; `tag` and `before` are 0 where there is none."""

    is_word: Any
    tag: Any
    begins: Any
    goes_on: Any
    before: Any
    ends: Any


def _places(codes: Any, count: int) -> _Places:
    rest = ops.maximum(codes - 1, 0)
    tag, rest = rest % count, rest // count
    before, ends = rest % (count + 2), rest // (count + 2)
    is_word = codes > 0
    return _Places(
        is_word=is_word,
        tag=tag,
        begins=is_word & (before == 1),
        goes_on=is_word & (before > 1),
        before=ops.maximum(before - 2, 0),
        ends=is_word & (ends == 1),
    )


# --- loss ---------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tfmodel")
class ChainLoss(keras.losses.Loss):
    """The negative log-likelihood of the right tags of texts, the mean over their words.

    Args:
        transitions: the layer of the model that is trained; its weights are learned by this.
    """

    from_logits = True  # as Keras's own losses say how outputs are read

    def __init__(self, transitions: Transitions, name: str = "loss", **kwargs):
        super().__init__(name=name, **{"reduction": "mean_with_sample_weight", **kwargs})
        self.transitions = transitions

    def call(self, y_true, y_pred):
        """The loss of each word, (B, T): that of its row, shared by the words in it.

        Args:
            y_true: (B, T), from `chained`.
            y_pred: logits (B, T, C).
        """
        places = _places(ops.cast(y_true, "int32"), len(self.transitions.tags))
        lost = _negative_log_likelihood(
            ops.cast(y_pred, "float32"), self.transitions.costs(), places
        )
        is_word = ops.cast(places.is_word, "float32")
        words = ops.sum(is_word, axis=1)
        return is_word * (lost / ops.maximum(words, 1.0))[:, None]

    def get_config(self) -> dict:
        """Not saved: it holds weights of a model."""
        raise NotImplementedError("Save the task's model; its `load` makes the loss anew.")


def _negative_log_likelihood(logits: Any, costs: Costs, places: _Places) -> Any:
    """The sum over the chains of each row: float32 (B,)."""
    count = logits.shape[-1]
    begins, ends, goes_on = (
        ops.cast(each, "float32") for each in (places.begins, places.ends, places.goes_on)
    )
    unaries = logits + begins[..., None] * costs.first + ends[..., None] * costs.last
    given = ops.take_along_axis(unaries, places.tag[..., None], axis=-1)[..., 0]
    pairs = ops.take(ops.reshape(costs.following, (-1,)), places.before * count + places.tag)
    right = ops.sum(given * ops.cast(places.is_word, "float32") + pairs * goes_on, axis=1)
    return log_partition(unaries, costs.following, places.is_word, places.goes_on) - right


def log_partition(unaries: Any, following: Any, is_word: Any, goes_on: Any) -> Any:
    """The logarithm of the sum over all sequences of tags, by the forward algorithm.

    Its gradient is what it is by theory, the marginal probabilities of tags and of pairs of tags,
    computed forward and backward: no loop is differentiated.

    Args:
        unaries: float32 (B, T, C), the score of each tag of each token.
        following: float32 (C, C), what is added where the second tag follows the first.
        is_word: bool (B, T), whether a token is in a chain; others are passed over.
        goes_on: bool (B, T), whether a word continues the chain of the word before it in its row.

    Returns:
        float32 (B,), the sum over the chains of a row.
    """

    @ops.custom_gradient
    def partition(unaries, following):
        reached, total = _forward(unaries, following, is_word, goes_on)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            messages = _backward(unaries, following, is_word, goes_on)
            of_tags = _tag_marginals(reached, messages, is_word)
            of_pairs = _pair_counts(reached, messages, unaries, following, goes_on, upstream)
            return upstream[:, None, None] * of_tags, of_pairs

        return total, gradient

    return partition(unaries, following)


def marginals(unaries: Any, following: Any, is_word: Any, goes_on: Any) -> Any:
    """The probability of each tag of each word among all sequences: float32 (B, T, C).

    Args:
        unaries: as `log_partition` takes them, and so the others.
        following: see there.
        is_word: see there.
        goes_on: see there.
    """
    reached, _ = _forward(unaries, following, is_word, goes_on)
    return _tag_marginals(reached, _backward(unaries, following, is_word, goes_on), is_word)


def _by_time(values: Any) -> Any:
    """(B, T, …) to (T, B, …), or back."""
    return ops.transpose(values, (1, 0, *range(2, len(values.shape))))


def _steps(unaries, is_word, goes_on) -> Any:
    """What a loop over the tokens reads, (T, B, C + 2), for `_of_step`.

    It is one tensor: Keras's `scan` takes no several ones whose number of steps is not known.
    """
    flags = ops.cast(ops.stack([is_word, goes_on], axis=-1), "float32")
    return _by_time(ops.concatenate([unaries, flags], axis=-1))


def _of_step(found) -> tuple[Any, Any, Any]:
    """Unaries (B, C), and whether there is a word and whether it goes on, bool (B, 1)."""
    return found[:, :-2], found[:, -2:-1] > 0, found[:, -1:] > 0


def _forward(unaries, following, is_word, goes_on) -> tuple[Any, Any]:
    """What leads to each tag of each token, normalized, (B, T, C); and `log_partition`."""

    def step(carry, of_token):
        best, total = carry
        unary, word, link = _of_step(of_token)
        led = ops.logsumexp(best[:, :, None] + following, axis=1)
        found = unary + ops.where(link, led, 0.0)
        size = ops.logsumexp(found, axis=1, keepdims=True)
        carry = (ops.where(word, found - size, best), total + ops.where(word, size, 0.0))
        return carry, carry

    start = (ops.zeros_like(unaries[:, 0]), ops.zeros_like(unaries[:, 0, :1]))
    (_, total), (reached, _) = ops.scan(step, start, _steps(unaries, is_word, goes_on))
    return _by_time(reached), total[:, 0]


def _backward(unaries, following, is_word, goes_on) -> Any:
    """What follows each tag of each token, but for a constant, (B, T, C)."""

    def step(message, of_token):
        unary, word, link = _of_step(of_token)
        sent = ops.logsumexp(following + (unary + message)[:, None, :], axis=2)
        sent = sent - ops.max(sent, axis=1, keepdims=True)
        return ops.where(word, ops.where(link, sent, 0.0), message), message

    steps = _steps(unaries, is_word, goes_on)
    _, messages = ops.scan(step, ops.zeros_like(unaries[:, 0]), steps, reverse=True)
    return _by_time(messages)


def _tag_marginals(reached, messages, is_word) -> Any:
    return ops.softmax(reached + messages, axis=-1) * ops.cast(is_word[..., None], "float32")


def _pair_counts(reached, messages, unaries, following, goes_on, weights) -> Any:
    """How often one tag is expected to follow another, (C, C), rows weighted by (B,)."""
    before = ops.pad(reached[:, :-1], ((0, 0), (1, 0), (0, 0)))
    before, after = _by_time(before), _by_time(unaries + messages)
    weights = _by_time(ops.cast(goes_on, "float32") * weights[:, None])

    def add(token, counts):
        joint = ops.take(before, token, axis=0)[:, :, None] + following
        joint = joint + ops.take(after, token, axis=0)[:, None, :]
        joint = ops.exp(joint - ops.logsumexp(joint, axis=(1, 2), keepdims=True))
        return counts + ops.sum(ops.take(weights, token, axis=0)[:, None, None] * joint, axis=0)

    return ops.fori_loop(0, ops.shape(before)[0], add, ops.zeros_like(following))
