"""``torch.ops.rnnfast.recurrent``: the layer as one opaque operator, for graphs that torch.compile makes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, library

from rnnfast.torch.call import Call, Spec

COMPILES = hasattr(library, "custom_op")  # since PyTorch 2.4; before, torch.compile breaks the graph at a layer

_OPTIONS = "str cell, str precision, int[] sizes, float dropout"
_FORWARD = (
    "(Tensor x, SymInt rows, Tensor? batch_sizes, Tensor? h0, Tensor? c0, Tensor[] weights, Tensor? key, "
    f"{_OPTIONS}, bool save) -> (Tensor, Tensor, Tensor, Tensor)"
)
_BACKWARD = (
    "(Tensor x, Tensor? batch_sizes, Tensor? h0, Tensor? c0, Tensor y, Tensor saved, Tensor[] weights, Tensor? key, "
    f"Tensor? dy, Tensor? dh, Tensor? dc, {_OPTIONS}, bool[] wanted) -> Tensor[]"
)


def new_key() -> int:
    """Of a dropout mask, from PyTorch's generator."""
    return int(torch.randint(0, 2**62, (), dtype=torch.int64, device="cpu"))


@functools.lru_cache(maxsize=256)
def function_of(spec: Any, first_weight: int) -> Any:
    """One for each layer, which the address of its first weight identifies: layers of one shape keep their own packed weights."""
    return spec.function()


def spec_of(cell: str, weights: str, sizes: Sequence[int]) -> Spec:
    """sizes: input_size, hidden_size, num_layers, bias, bidirectional."""
    return Spec(cell, int(sizes[0]), int(sizes[1]), int(sizes[2]), bool(sizes[3]), bool(sizes[4]), weights)


def _call(spec: Spec, x: Tensor, batch_sizes: Tensor | None, first: Tensor, dropout: float, key: Tensor | None) -> Call:
    if batch_sizes is None:
        steps, rows = x.shape[0], x.shape[1]
    else:
        batch_sizes = batch_sizes.contiguous()
        steps, rows = len(batch_sizes), int(batch_sizes[0])
    call = Call(spec, function_of(spec, first.data_ptr()), steps, rows, batch_sizes)
    if dropout and key is not None:
        call.dropout, call.key = dropout, int(key)
    return call


def _sizes_of(spec: Spec, x: Tensor, rows: Any) -> tuple[Any, Any, Any]:
    """Shapes of y and of a state, and the size of what is saved."""
    total = 1
    for size in x.shape[:-1]:
        total = total * size
    return (
        (*x.shape[:-1], spec.width),
        (spec.num_layers * spec.directions, rows, spec.hidden_size),
        spec.saved_floats(total),
    )


if COMPILES:

    @library.custom_op("rnnfast::recurrent", mutates_args=(), device_types="cpu", schema=_FORWARD)
    def recurrent(*given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """y, h_n, c_n (empty where the cell has none) and what backward needs (empty without ``save``), for x (T, N, D), or
        (total, D) with the batch_sizes of a PackedSequence. sizes: of ``spec_of``."""
        x, _, batch_sizes, h0, c0, weights, key, cell, precision, sizes, dropout, save = given
        spec = spec_of(cell, precision, sizes)
        held = [w.contiguous() for w in weights]
        call = _call(spec, x, batch_sizes, weights[0], dropout, key)
        out = call.forward(x, h0, c0, held, save=save)
        empty = x.new_empty(0)
        assert out.h is not None
        return out.y, out.h, x.new_empty(0) if out.c is None else out.c, empty if out.saved is None else out.saved

    @recurrent.register_fake
    def _(*given: Any) -> Any:
        x, rows, *_, cell, precision, sizes, _, save = given
        spec = spec_of(cell, precision, sizes)
        y, state, saved = _sizes_of(spec, x, rows)
        c = x.new_empty(state if cell == "lstm" else (0,))
        return x.new_empty(y), x.new_empty(state), c, x.new_empty((saved if save else 0,))

    @library.custom_op("rnnfast::recurrent_backward", mutates_args=(), device_types="cpu", schema=_BACKWARD)
    def recurrent_backward(*given: Any) -> list[Tensor]:
        """The gradients of x, h0, c0 and the weights that are ``wanted``, in this order. ``saved`` stays as it is."""
        x, batch_sizes, h0, c0, y, saved, weights, key, dy, dh, dc, *options, wanted = given
        cell, precision, sizes, dropout = options
        spec = spec_of(cell, precision, sizes)
        call = _call(spec, x, batch_sizes, weights[0], dropout, key)
        tensors = [x, h0, c0, y, saved, *(w.contiguous() for w in weights)]
        made = call.backward(tensors, [dy, dh, dc], wanted, use_up=False)
        return [t for t in made if t is not None]

    @recurrent_backward.register_fake
    def _(*given: Any) -> Any:
        x, _, h0, c0, _, _, weights, *_, wanted = given
        return [t.new_empty(t.shape) for t, want in zip([x, h0, c0, *weights], wanted) if want and t is not None]

    def _setup(ctx: Any, inputs: Any, output: Any) -> None:
        x, _, batch_sizes, h0, c0, weights, key, *options = inputs
        y, _, c, saved = output
        ctx.save_for_backward(x, batch_sizes, h0, c0, y, saved, key, *weights)
        ctx.mark_non_differentiable(saved, *([] if options[0] == "lstm" else [c]))
        ctx.set_materialize_grads(False)
        ctx.options = options

    def _backward(ctx: Any, dy: Any, dh: Any, dc: Any, _: Any) -> Any:
        x, batch_sizes, h0, c0, y, saved, key, *weights = ctx.saved_tensors
        cell, precision, sizes, dropout, _save = ctx.options
        needs = ctx.needs_input_grad
        of_weights = needs[5] if isinstance(needs[5], (list, tuple)) else [needs[5]] * len(weights)
        wanted = [needs[0], needs[3] and h0 is not None, needs[4] and c0 is not None, *of_weights]
        if cell != "lstm":
            dc = None
        found = iter(
            recurrent_backward(
                x, batch_sizes, h0, c0, y, saved, weights, key, dy, dh, dc, cell, precision, sizes, dropout, wanted
            )
        )
        dx, dh0, dc0, *dweights = (next(found) if want else None for want in wanted)
        return (dx, None, None, dh0, dc0, dweights, *([None] * 6))

    recurrent.register_autograd(_backward, setup_context=_setup)
