"""Constants of ONNX graphs: what depends on constants and known shapes alone is computed, within bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from rnnfast.interop.onnx_nodes import array_of, attributes, described, onnx_package, operator

Array = NDArray[Any]
Options = Mapping[str, Any]


def evaluated(
    node: Any, known: Mapping[str, Array], opsets: Mapping[str, int], take: Callable[[int, str], None]
) -> dict[str, Array]:
    """The outputs of a node whose inputs are constants, by their names; empty if they are not, or if the node cannot be computed ahead.

    ``take`` is told first how many bytes the outputs have at most.
    """
    inputs = [name for name in node.input if name]
    size_of = _SIZES.get(operator(node))
    if size_of is None or any(name not in known for name in inputs) or any(a.HasField("g") for a in node.attribute):
        return {}
    arrays = [known[name] for name in inputs]
    try:
        count = size_of(arrays, attributes(node))
    except (
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
    ):  # inputs that do not fit: whoever reads the node names it
        return {}
    take(int(count) * 8, described(node))
    try:
        evaluator = onnx_package().reference.ReferenceEvaluator(node, opsets=dict(opsets))
        values = evaluator.run(None, {name: known[name] for name in inputs})
    except Exception:  # an operator that onnx cannot compute: it stays, and whoever reads the graph names it
        return {}
    return {name: np.asarray(v) for name, v in zip(node.output, values) if name}


def stored(node: Any) -> Array | None:
    """The array of a Constant node."""
    given = attributes(node)
    if len(given) != 1 or "sparse_value" in given:
        return None
    ((name, value),) = given.items()
    return array_of(value) if name == "value" else np.asarray(value)


# How many numbers an operator's outputs have at most.


def _broadcast(arrays: Sequence[Array], given: Options) -> int:
    try:
        return math.prod(np.broadcast_shapes(*(a.shape for a in arrays)))
    except ValueError:
        return _same(arrays, given)


def _same(arrays: Sequence[Array], given: Options) -> int:
    return sum(a.size * max(a.ndim, 1) for a in arrays) + 64


def _gathered(arrays: Sequence[Array], given: Options) -> int:
    data, places = arrays
    return int(data.size // max(data.shape[given.get("axis", 0)], 1) * places.size)


def _expanded(arrays: Sequence[Array], given: Options) -> int:
    return math.prod(max(a, b, 1) for a, b in _from_the_end(arrays[0].shape, arrays[1].tolist()))


def _from_the_end(a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
    rank = max(len(a), len(b))
    return list(zip([1] * (rank - len(a)) + list(a), [1] * (rank - len(b)) + list(b)))


def _padded(arrays: Sequence[Array], given: Options) -> int:
    pads = given.get("pads") or arrays[1].tolist()
    extra = sum(max(p, 0) for p in pads)
    count: int = math.prod(d + extra for d in arrays[0].shape)
    return count


def _product(arrays: Sequence[Array], given: Options) -> int:
    a, b = arrays[0], arrays[1]
    rows = a.size if a.ndim < 2 else a.shape[-1] if given.get("transA") else a.shape[-2]
    columns = b.size if b.ndim < 2 else b.shape[-2] if given.get("transB") else b.shape[-1]
    return int(rows * columns) * math.prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))


_SIZES: dict[str, Callable[[Sequence[Array], Options], int]] = {
    **dict.fromkeys(
        "Abs Neg Add Sub Mul Div Pow Sqrt Exp Log Floor Ceil Round Sign Reciprocal Erf Sin Cos Tanh Sigmoid Relu LeakyRelu Elu Gelu"
        " HardSigmoid Softplus Softmax LogSoftmax Clip Max Min Mean Sum Mod Where Equal Greater GreaterOrEqual Less LessOrEqual And Or"
        " Not Xor IsNaN IsInf CumSum Trilu Cast CastLike Identity QuantizeLinear DequantizeLinear".split(),
        _broadcast,
    ),
    **dict.fromkeys(
        "Reshape Squeeze Unsqueeze Flatten Transpose Slice Split Shape Size ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd"
        " ReduceL2 ArgMax ArgMin NonZero TopK GatherElements Concat ScatterElements ScatterND EyeLike".split(),
        _same,
    ),
    "Gather": _gathered, "Expand": _expanded, "Pad": _padded, "MatMul": _product, "Gemm": _product,
    "ConstantOfShape": lambda arrays, given: math.prod(max(int(d), 1) for d in arrays[0].ravel()),
    "Tile": lambda arrays, given: arrays[0].size * math.prod(max(int(d), 1) for d in arrays[1].ravel()),
    "Range": lambda arrays, given: max(math.ceil((float(arrays[1]) - float(arrays[0])) / float(arrays[2])), 0),
    "OneHot": lambda arrays, given: arrays[0].size * max(int(arrays[1].ravel()[0]), 1),
}  # fmt: skip
