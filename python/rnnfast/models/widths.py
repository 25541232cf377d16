"""How many numbers and steps a layer gives, from its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rnnfast.models.described import described
from rnnfast.models.residual import leaves
from rnnfast.nn.layer import Layer
from rnnfast.nn.parts import Flatten, Magnitude, Part

Entry = Mapping[str, Any]


def output_width(entry: Entry, read: Sequence[int]) -> int:
    """The numbers of a step of what a described layer gives, from those of its inputs.

    >>> output_width({"type": "recurrent", "hidden_size": 8, "bidirectional": True}, [3])
    16
    """
    kind = entry["type"]
    if kind == "recurrent":
        return int(entry["hidden_size"] * (1 + entry["bidirectional"]))
    if kind == "time_distributed":
        steps, width = inner_shapes(entry, read[0])[-1]
        return steps * width
    if kind == "flatten":
        return int(entry["steps"]) * read[0]
    if kind == "magnitude":
        return read[0] // 2
    for size in ("embedding_dim", "out_features", "out_channels"):
        if size in entry:
            return int(entry[size])
    return sum(read) if kind == "concatenate" else read[0]


def output_steps(entry: Entry, steps: int) -> int:
    """The steps that a described layer makes of so many; below 1 if they are too few.

    >>> output_steps({"type": "reflection_pad", "before": 0, "after": 2}, 5)
    7
    """
    kind = entry["type"]
    if kind in ("conv1d", "pool_windows"):
        reach = entry.get("dilation", 1) * (entry["kernel_size"] - 1)
        padded = steps + entry["before"] + entry["after"]
        return int((padded - reach - 1) // entry["stride"] + 1)
    if kind == "flatten":
        return int(steps // entry["steps"])
    if kind == "reflection_pad":
        sides = entry["before"], entry["after"]
        return int(steps + sum(sides)) if steps > max(sides) else 0
    return 1 if kind in ("pool", "attention_pool") else steps


def inner_shapes(entry: Entry, width: int) -> list[tuple[int, int]]:
    """Steps and width that each layer inside a step of ``width`` numbers reads, then those that the last one gives.

    >>> inner_shapes({"steps": 4, "layers": [{"type": "flatten", "steps": 2}]}, 12)
    [(4, 3), (2, 6)]
    """
    shapes = [(int(entry["steps"]), width // entry["steps"])]
    for inner in entry["layers"]:
        steps, numbers = shapes[-1]
        shapes.append((output_steps(inner, steps), output_width(inner, [numbers])))
    return shapes


def first_width(layers: Sequence[Layer | Part]) -> int | dict[str, int] | None:
    """What a chain reads, by its first layer that has a width: a Flatten before it makes its inputs wider, a Magnitude narrower. None: any width."""
    times, halves = 1, 1
    for layer in leaves(layers):
        description = described(layer)
        if isinstance(layer, Flatten):
            times *= layer.steps
        if isinstance(layer, Magnitude):
            halves *= 2
        if description.reads is None:
            continue
        if description.reads * halves % times:
            raise ValueError(
                f"{layer!r} reads {description.reads} numbers a step, expected a multiple of the {times} steps flattened before it"
            )
        return {"ids": description.reads} if description.ids else description.reads * halves // times
    return None
