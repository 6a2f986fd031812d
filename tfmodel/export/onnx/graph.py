"""The graph of a task on a BERT or its like, node by node in ONNX's standard operators.

Operators and their order are those that ONNX Runtime knows how to fuse (attention, GELU, layer
normalization with what is added before it), and where the first token alone is asked, the last
layer is computed for it alone, as everywhere in tfmodel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmodel.export.weights import HEAD
from tfmodel.model.families import FAMILIES, Family
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks.masked_head import NAMES
from tfmodel.tasks.readings import AtGap, Pooled

OPSET = 17
"""The first with LayerNormalization; ONNX Runtime takes it since 1.12."""
IR_VERSION = 8  # of the same age
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"
ENDS = ("start_logits", "end_logits")
"""Of answers in a text: as Hugging Face's exporters call them."""
VECTOR = "sentence_embedding"

_HIDDEN_FROM_PADDING = -10_000.0  # the value that ONNX Runtime's fusion looks for
_GELU_SCALE = float(np.sqrt(2 / np.pi))


class _Graph:
    """Nodes and constants in the order they are made; a method adds nodes, gives their output.

    Letters: B batch, T tokens, D hidden, N heads, C classes.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        self.tensors = tensors
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}

    def add(self, kind: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Add a node; its output has its name."""
        from onnx import helper

        output = attributes.pop("output", name)
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def constant(self, name: str, value: Any, dtype: type = np.float32) -> str:
        """Keep a constant."""
        self.constants[name] = np.asarray(value, dtype)
        return name

    def table(self, name: str) -> str:
        """Keep a tensor of the checkpoint as it is."""
        return self.constant(name, self.tensors[name])

    def dense(self, hidden: str, name: str, node: str = "") -> str:
        """(B, T, D) times a kernel, plus a bias; `node`: where layers share the weights."""
        node = node or name
        kernel = self.constant(f"{name}.kernel", self.tensors[f"{name}.weight"].T)
        product = self.add("MatMul", hidden, kernel, name=f"{node}/product")
        return self.add("Add", product, self.table(f"{name}.bias"), name=f"{node}/sum")

    def normalize(self, hidden: str, name: str, epsilon: float, node: str = "") -> str:
        """Layer normalization over D."""
        return self.add(
            "LayerNormalization",
            hidden,
            self.table(f"{name}.weight"),
            self.table(f"{name}.bias"),
            name=node or name,
            axis=-1,
            epsilon=epsilon,
        )

    def first_token(self, hidden: str, name: str) -> str:
        """(B, T, D) to (B, 1, D)."""
        axes = [self.constant(f"first.{key}", [value], np.int64) for key, value in _FIRST]
        return self.add("Slice", hidden, *axes, name=name)

    # --- parts of a BERT ------------------------------------------------------------------

    def embed(self, shape: BertConfig, family: Family) -> str:
        """Sum of the embeddings, normalized, and widened where the family does so: (B, T, D)."""
        ids, _, segments = INPUTS
        names = {part: f"{name}.weight" for part, name in family.embeddings.items()}
        word = self.table(names["token_table"])
        word = self.add("Gather", word, ids, name="embeddings/word", axis=0)
        sizes = self.add("Shape", ids, name="embeddings/shape")
        one, zero = (self.constant(name, value, np.int64) for name, value in _SCALARS)
        length = self.add("Gather", sizes, one, name="embeddings/length", axis=0)
        positions = self.add("Range", zero, length, one, name="embeddings/positions")
        table = self.tensors[names["position_table"]][family.first_position :]
        if shape.segments == 1:  # every token is of the only one
            table = table + self.tensors[names["segment_table"]]
        position = self.constant(names["position_table"], table)
        position = self.add("Gather", position, positions, name="embeddings/position", axis=0)
        if shape.segments > 1:
            segment = self.table(names["segment_table"])
            segment = self.add("Gather", segment, segments, name="embeddings/segment", axis=0)
            word = self.add("Add", word, segment, name="embeddings/sum_of_two")
        hidden = self.add("Add", word, position, name="embeddings/sum")
        hidden = self.normalize(hidden, family.embeddings["normalize"], shape.layer_norm_epsilon)
        return hidden if shape.embedding_size is None else self.dense(hidden, family.projection)

    def mask(self) -> str:
        """(B, 1, 1, T): 0 where a token is, far below every score where padding is."""
        axes = self.constant("mask.axes", [1, 2], np.int64)
        wide = self.add("Unsqueeze", INPUTS[1], axes, name="mask/wide")
        real = self.add("Cast", wide, name="mask/real", to=1)
        padding = self.add("Sub", self.constant("mask.one", 1.0), real, name="mask/padding")
        low = self.constant("mask.low", _HIDDEN_FROM_PADDING)
        return self.add("Mul", padding, low, name="mask/added")

    def attention(
        self,
        hidden: str,
        asking: str,
        mask: str,
        name: str,
        theirs: Mapping[str, str],
        shape: BertConfig,
    ) -> str:
        """What the tokens of `asking` (B, T or 1, D) take from those of `hidden` (B, T, D)."""
        width = shape.hidden_size // shape.heads
        split = self.constant("split", [0, 0, shape.heads, width], np.int64)

        def heads(part: str, source: str, order: Sequence[int]) -> str:
            projected = self.dense(source, theirs[part], f"{name}/{part}")
            projected = self.add("Reshape", projected, split, name=f"{name}/{part}/heads")
            return self.add("Transpose", projected, name=f"{name}/{part}/turned", perm=order)

        query = heads("query", asking, (0, 2, 1, 3))
        key = heads("key", hidden, (0, 2, 3, 1))
        value = heads("value", hidden, (0, 2, 1, 3))
        scores = self.add("MatMul", query, key, name=f"{name}/scores")
        scale = self.constant("scale", float(np.sqrt(width)))
        scores = self.add("Div", scores, scale, name=f"{name}/scaled")
        scores = self.add("Add", scores, mask, name=f"{name}/masked")
        weights = self.add("Softmax", scores, name=f"{name}/weights", axis=-1)
        mixed = self.add("MatMul", weights, value, name=f"{name}/mixed")
        mixed = self.add("Transpose", mixed, name=f"{name}/turned", perm=(0, 2, 1, 3))
        joined = self.constant("joined", [0, 0, shape.hidden_size], np.int64)
        mixed = self.add("Reshape", mixed, joined, name=f"{name}/joined")
        return self.dense(mixed, theirs["output"], f"{name}/output")

    def activate(self, hidden: str, name: str, kind: str) -> str:
        """ReLU, tanh, or GELU by its formula: the operator came with a later opset."""
        if kind in ("relu", "tanh"):
            return self.add(kind.capitalize(), hidden, name=f"{name}/{kind}")
        half, one = self.constant("half", 0.5), self.constant("one_float", 1.0)
        if kind == "gelu":
            root = self.constant("root_of_two", float(np.sqrt(2)))
            share = self.add("Div", hidden, root, name=f"{name}/scaled")
            share = self.add("Erf", share, name=f"{name}/erf")
        else:
            three = self.constant("three", 3.0)
            cube = self.add("Pow", hidden, three, name=f"{name}/cube")
            little = self.constant("little", 0.044715)
            cube = self.add("Mul", cube, little, name=f"{name}/little")
            bent = self.add("Add", hidden, cube, name=f"{name}/bent")
            scale = self.constant("gelu_scale", _GELU_SCALE)
            bent = self.add("Mul", bent, scale, name=f"{name}/scaled")
            share = self.add("Tanh", bent, name=f"{name}/tanh")
        share = self.add("Add", share, one, name=f"{name}/share")
        product = self.add("Mul", hidden, share, name=f"{name}/product")
        return self.add("Mul", product, half, name=f"{name}/gelu")

    def layer(
        self,
        hidden: str,
        mask: str,
        name: str,
        theirs: Mapping[str, str],
        shape: BertConfig,
        *,
        last: bool,
    ) -> str:
        """One transformer layer: (B, T, D) to the same, or to (B, 1, D) where it is the last.

        Args:
            hidden: its input.
            mask: from `mask`.
            name: how the names of its nodes begin.
            theirs: names of its tensors, as `Family.layer` has them.
            shape: the encoder's.
            last: whether only the first token is asked for.
        """
        asking = self.first_token(hidden, f"{name}/first_token") if last else hidden
        attended = self.attention(hidden, asking, mask, f"{name}.attention", theirs, shape)
        hidden = self.add("Add", attended, asking, name=f"{name}/attended")
        epsilon = shape.layer_norm_epsilon
        hidden = self.normalize(hidden, theirs["attention_norm"], epsilon, f"{name}/attention_norm")
        widened = self.dense(hidden, theirs["widen"], f"{name}/widen")
        widened = self.activate(widened, f"{name}/activation", shape.activation)
        narrowed = self.dense(widened, theirs["narrow"], f"{name}/narrow")
        hidden = self.add("Add", narrowed, hidden, name=f"{name}/fed_forward")
        return self.normalize(
            hidden, theirs["feed_forward_norm"], epsilon, f"{name}/feed_forward_norm"
        )

    def encode(self, shape: BertConfig, *, first_only: bool = False) -> str:
        """The hidden states of all tokens (B, T, D), or of the first of each row (B, 1, D)."""
        family = FAMILIES[shape.family]
        mask = self.mask()
        hidden = self.embed(shape, family)
        numbers: dict[int, int] = {}  # of the layers that have weights of their own
        for index in range(shape.layers):
            last, name = first_only and index == shape.layers - 1, f"encoder.layer.{index}"
            number = numbers.setdefault(shape.shares_with(index), len(numbers))
            theirs = {part: each.format(number) for part, each in family.layer.items()}
            hidden = self.layer(hidden, mask, name, theirs, shape, last=last)
        return hidden

    def mean(self, hidden: str) -> str:
        """The mean of each row's tokens without its padding, (B, T, D) to (B, D)."""
        axis, last = (self.constant(f"mean.{at}", [at], np.int64) for at in (1, 2))
        real = self.add("Cast", INPUTS[1], name="mean/mask", to=1)
        wide = self.add("Unsqueeze", real, last, name="mean/wide")
        kept = self.add("Mul", hidden, wide, name="mean/kept")
        total = self.add("ReduceSum", kept, axis, name="mean/sum", keepdims=0)
        count = self.add("ReduceSum", wide, axis, name="mean/count", keepdims=0)
        count = self.add("Max", count, self.constant("mean.least", 1.0), name="mean/at_least_one")
        return self.add("Div", total, count, name="mean")

    def only_token(self, hidden: str) -> str:
        """(B, 1, D) to (B, D)."""
        axis = self.constant("first.token", [1], np.int64)
        return self.add("Squeeze", hidden, axis, name="first_token")

    def at_first(self, hidden: str, piece: int) -> str:
        """The state where a piece stands for the first time in its row: (B, T, D) to (B, D)."""
        axis, one = self.constant("gap.axis", [1], np.int64), self.constant("gap.one", 1.0)
        wanted = self.constant("gap.piece", piece, np.int64)
        found = self.add("Equal", INPUTS[0], wanted, name="gap/found")
        found = self.add("Cast", found, name="gap/is_piece", to=1)
        along = self.constant("gap.along", 1, np.int64)
        count = self.add("CumSum", found, along, name="gap/count")
        first = self.add("Equal", count, one, name="gap/is_first")
        first = self.add("Cast", first, name="gap/first", to=1)
        first = self.add("Mul", first, found, name="gap/only")
        first = self.add("Unsqueeze", first, axis, name="gap/row")
        state = self.add("MatMul", first, hidden, name="gap/state")
        return self.add("Squeeze", state, axis, name="gap")

    def sentence(self, shape: BertConfig, pooling: str, normalize: bool) -> str:
        """What `SentencePooling` makes of the hidden states: (B, D)."""
        hidden = self.encode(shape, first_only=pooling == "cls")
        vector = self.mean(hidden) if pooling == "mean" else self.only_token(hidden)
        return self.unit(vector) if normalize else vector

    def unit(self, vector: str) -> str:
        """Vectors (B, D) of length 1; one of zeros stays one."""
        length = self.add("ReduceL2", vector, name="unit/length", axes=[1], keepdims=1)
        length = self.add("Max", length, self.constant("unit.least", 1e-12), name="unit/not_zero")
        return self.add("Div", vector, length, name="unit")


_FIRST = (("start", 0), ("end", 1), ("axis", 1))
_SCALARS = (("one", 1), ("zero", 0))


def inputs_of(shape: BertConfig) -> tuple[str, ...]:
    """The inputs of `INPUTS` that an encoder has: one without segments is given none."""
    return INPUTS if shape.segments > 1 else INPUTS[:2]


def classifier_graph(
    shape: BertConfig,
    tensors: Mapping[str, np.ndarray],
    *,
    classes: int,
    producer: str,
    reading: Pooled | AtGap | None = None,
) -> Any:
    """Write a classifier as an ONNX model.

    Args:
        shape: the encoder's.
        tensors: float32 arrays by Hugging Face name, as `read_classifier` gives them.
        classes: C.
        producer: version of tfmodel.
        reading: what the head reads, where it is not the encoder's `pooled` output.

    Returns:
        An `onnx.ModelProto`. Inputs as `inputs_of` says, int64 (B, T) with any B and T; output
        `logits`, float32 (B, C).
    """
    graph = _Graph(tensors)
    if isinstance(reading, Pooled):
        vector = graph.sentence(shape, reading.pooling, reading.normalize)
    elif reading is not None:
        vector = _at_gap(graph, shape, reading)
    else:
        vector = _pooled(graph, shape)
    graph.dense(vector, HEAD)
    graph.nodes[-1].output[0] = OUTPUT
    return _model(graph, "classifier", shape, {OUTPUT: ["batch", classes]}, producer)


def _pooled(graph: _Graph, shape: BertConfig) -> str:
    family = FAMILIES[shape.family]
    hidden = graph.encode(shape, first_only=True)
    flat = graph.constant("flat", [-1, shape.hidden_size], np.int64)
    first = graph.add("Reshape", hidden, flat, name="first_token")
    pooled = graph.dense(first, family.pooler[0])
    return graph.activate(pooled, "pooled", family.pooler_activation)


def _at_gap(graph: _Graph, shape: BertConfig, reading: AtGap) -> str:
    names = NAMES[shape.family]
    state = graph.at_first(graph.encode(shape), reading.mask_id)
    state = graph.dense(state, names.dense)
    state = graph.activate(state, "gap/activation", names.activation or shape.activation)
    return graph.normalize(state, names.normalize, shape.layer_norm_epsilon)


def tokens_graph(
    shape: BertConfig,
    tensors: Mapping[str, np.ndarray],
    *,
    classes: int,
    producer: str,
    apart: Sequence[str] = (),
) -> Any:
    """Write a model that answers each token as an ONNX model.

    Args:
        shape: the encoder's.
        tensors: as `read_tokens_model` gives them.
        classes: C.
        producer: version of tfmodel.
        apart: names of C outputs (B, T), where each number of a token is one.

    Returns:
        An `onnx.ModelProto`, inputs as of `classifier_graph`; output `logits`, float32 (B, T, C),
        or those of `apart`.
    """
    graph = _Graph(tensors)
    logits = graph.dense(graph.encode(shape), HEAD)
    sizes = ["batch", "sequence"]
    if not apart:
        graph.nodes[-1].output[0] = OUTPUT
        return _model(graph, "tagger", shape, {OUTPUT: [*sizes, classes]}, producer)
    for index, name in enumerate(apart):
        place = graph.constant(f"output.{index}", index, np.int64)
        graph.add("Gather", logits, place, name=name, axis=2)
    return _model(graph, "answerer", shape, dict.fromkeys(apart, sizes), producer)


def vector_graph(
    shape: BertConfig,
    tensors: Mapping[str, np.ndarray],
    *,
    pooling: str,
    normalize: bool,
    producer: str,
) -> Any:
    """Write a model of sentence vectors as an ONNX model.

    Args:
        shape: the encoder's.
        tensors: as `read_vector_model` gives them.
        pooling: `mean` or `cls`, as `SentencePooling` has it.
        normalize: whether vectors are brought to length 1.
        producer: version of tfmodel.

    Returns:
        An `onnx.ModelProto`, inputs as of `classifier_graph`; output `sentence_embedding`,
        float32 (B, D), as Hugging Face's exporters call it.
    """
    graph = _Graph(tensors)
    graph.sentence(shape, pooling, normalize)
    graph.nodes[-1].output[0] = VECTOR
    return _model(graph, "embedder", shape, {VECTOR: ["batch", shape.hidden_size]}, producer)


def _model(
    graph: _Graph,
    name: str,
    shape: BertConfig,
    outputs: Mapping[str, Sequence[str | int]],
    producer: str,
) -> Any:
    """What is written of a graph: outputs are named with their sizes."""
    from onnx import TensorProto, helper, numpy_helper

    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            name,
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
                for name in inputs_of(shape)
            ],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
                for name, sizes in outputs.items()
            ],
            [
                numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
                for name, value in graph.constants.items()
            ],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="tfmodel",
        producer_version=producer,
    )
