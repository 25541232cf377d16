"""Nodes of ONNX graphs: what they are called, and what is stored in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast.models.onnx_write import DOMAIN

Array = NDArray[Any]
QUANTIZED_LSTM = "com.microsoft.DynamicQuantizeLSTM"
RECURRENT = ("LSTM", "GRU", "RNN", QUANTIZED_LSTM)


def onnx_package() -> Any:
    """The onnx package."""
    try:
        import onnx
        import onnx.numpy_helper
        import onnx.reference
        import onnx.shape_inference
    except ImportError:
        raise ImportError("ONNX files need the onnx package: pip install 'rnnfast[onnx]'") from None
    return onnx


def operator(node: Any) -> str:
    """What a node computes: an operator of ONNX by its name, one of another domain by that and its name, a layer of ``to_onnx`` without
    its options."""
    if node.domain in ("", "ai.onnx"):
        return str(node.op_type)
    name = node.op_type.partition("_")[0] if node.domain == DOMAIN else node.op_type
    return f"{node.domain}.{name}"


def described(node: Any) -> str:
    """A node as messages name it."""
    return f"{node.op_type} node {node.name or (node.output or ['without a name'])[0]!r}"


def read_by(node: Any) -> list[str]:
    """What a node reads, inside its subgraphs too."""
    names = list(node.input)
    for attribute in node.attribute:
        inner = attribute.g if attribute.HasField("g") else None
        if inner is not None:
            own = {name for n in inner.node for name in n.output} | {t.name for t in inner.initializer}
            own |= {value.name for value in inner.input}
            names += [name for n in inner.node for name in read_by(n) if name not in own]
            names += [value.name for value in inner.output if value.name not in own]
    return names


def every_node(nodes: Iterable[Any]) -> Iterator[Any]:
    """Nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from every_node(attribute.g.node)


def array_of(tensor: Any) -> Array:
    """A stored tensor; half precision and bfloat16 as float32."""
    array: Array = onnx_package().numpy_helper.to_array(tensor)
    if array.dtype == np.float16 or array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    return array


def attributes(node: Any) -> dict[str, Any]:
    """A node's attributes; names as str."""
    values = {a.name: onnx_package().helper.get_attribute_value(a) for a in node.attribute}
    return {
        name: value.decode() if isinstance(value, bytes) else
        [v.decode() for v in value] if isinstance(value, list) and value and isinstance(value[0], bytes) else value
        for name, value in values.items()
    }  # fmt: skip
