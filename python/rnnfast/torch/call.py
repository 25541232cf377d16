"""One call of a recurrent layer on tensors: forward, backward, and PyTorch's own operators for what is neither."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor

from rnnfast import _core

OptionalTensor = Optional[Tensor]
_GATES = {"lstm": 4, "gru": 3, "rnn": 1, "rnn_relu": 1}
_OPERATORS: dict[str, Any] = {
    "lstm": torch._VF.lstm,
    "gru": torch._VF.gru,
    "rnn": torch._VF.rnn_tanh,
    "rnn_relu": torch._VF.rnn_relu,
}
keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


class _TorchOnly(threading.local):
    """While ``active``, this thread wants PyTorch's operators, whatever ``enabled()`` has put in their place."""

    active = False


torch_only = _TorchOnly()


class Spec(NamedTuple):
    """What the compiled function is made for. ``cell``: of ``rnn, rnn_relu, lstm, gru``; ``weights``: its precision."""

    cell: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    weights: str

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def width(self) -> int:
        """Of the output."""
        return self.directions * self.hidden_size

    def function(self) -> _core.RecurrentFunction:
        sizes = (self.input_size, self.hidden_size, self.num_layers)
        return _core.RecurrentFunction(self.cell, sizes, self.bias, self.bidirectional, self.weights)

    def shapes(self) -> list[tuple[int, ...]]:
        """Of the parameters, in PyTorch's order."""
        rows = _GATES[self.cell] * self.hidden_size
        found: list[tuple[int, ...]] = []
        for layer in range(self.num_layers):
            inputs = self.width if layer else self.input_size
            each = [(rows, inputs), (rows, self.hidden_size), *([(rows,), (rows,)] if self.bias else [])]
            found += each * self.directions
        return found

    def saved_floats(self, total: int) -> int:
        """What forward leaves for backward, for an input of ``total`` rows; also where ``total`` is symbolic."""
        padded = (self.hidden_size + 15) // 16 * 16
        second = {"lstm": 1, "gru": 1}.get(self.cell, 0)

        def lines(width: int) -> int:
            return (total * width + 15) // 16 * 16

        scan = lines(_GATES[self.cell] * padded) + second * lines(padded)
        return self.num_layers * self.directions * scan + (self.num_layers - 1) * lines(self.width)


def address(tensor: OptionalTensor) -> int:
    return 0 if tensor is None else tensor.data_ptr()


class Outputs(NamedTuple):
    """``h`` is None for a single step, whose ``y`` it is; ``c`` where the cell has none; ``saved`` without a backward."""

    y: Tensor
    h: OptionalTensor
    c: OptionalTensor
    saved: OptionalTensor


@dataclass
class Call:
    """The shapes and options of one call.

    x: (T, N, D); (N, T, D) if ``batch_first``; (N, D) if ``single``: one step; (total, D) with ``batch_sizes``, as PackedSequence
    holds it. y likewise. Weights are contiguous float32 tensors in PyTorch's order.
    """

    spec: Spec
    function: _core.RecurrentFunction
    steps: int
    rows: int
    batch_sizes: OptionalTensor = None
    batch_first: bool = False
    single: bool = False
    dropout: float = 0.0
    key: int = 0

    def shape(self) -> tuple[int, int, int, int]:
        return (self.steps, self.rows, address(self.batch_sizes), torch.get_num_threads())

    @functools.cached_property
    def saved_floats(self) -> int:
        """What forward leaves for backward; not with ``batch_sizes``."""
        return self.function.saved_floats(self.steps * self.rows)

    def by_step(self, tensor: Tensor) -> Tensor:
        """As the core reads it: steps first, without gaps."""
        return (tensor.transpose(0, 1) if self.batch_first else tensor).contiguous()

    def as_caller(self, tensor: Tensor) -> Tensor:
        return tensor.transpose(0, 1) if self.batch_first else tensor

    @functools.cached_property
    def states(self) -> tuple[int, ...]:
        """The shape of h0 and c0."""
        size = (self.rows, self.spec.hidden_size)
        return size if self.single else (self.spec.num_layers * self.spec.directions, *size)

    @functools.cached_property
    def outputs(self) -> tuple[int, ...]:
        """The shape of y with its steps first; not with ``batch_sizes``."""
        return self.states if self.single else (self.steps, self.rows, self.spec.width)

    def forward(
        self,
        x: Tensor,
        h0: OptionalTensor,
        c0: OptionalTensor,
        weights: Sequence[Tensor],
        *,
        save: bool,
        frozen: _core.FrozenWeights | None = None,
    ) -> Outputs:
        x = self.by_step(x)
        h0 = None if h0 is None else h0.contiguous()
        c0 = None if c0 is None else c0.contiguous()
        # Sizes one by one: PyTorch takes longer to read a tuple.
        packed = self.batch_sizes is not None
        y = x.new_empty(x.shape[0], self.spec.width) if packed else x.new_empty(*self.outputs)
        h = None if self.single else x.new_empty(*self.states)
        c = x.new_empty(*self.states) if self.spec.cell == "lstm" else None
        saved = None
        if save:
            saved = x.new_empty(self.function.saved_floats(x.shape[0]) if packed else self.saved_floats)
        arrays = (x.data_ptr(), address(h0), address(c0), y.data_ptr(), address(saved), address(h), address(c))
        if frozen is not None:
            self.function.forward_frozen(self.shape(), arrays, frozen)
        else:
            self.function.forward(self.shape(), arrays, [w.data_ptr() for w in weights], (self.dropout, self.key))
        return Outputs(self.as_caller(y), h, c, saved)

    def backward(
        self,
        tensors: Sequence[OptionalTensor],
        gradients: Sequence[OptionalTensor],
        wanted: Sequence[bool],
        *,
        use_up: bool,
    ) -> list[OptionalTensor]:
        """Gradients of x, h0, c0 and the weights where ``wanted``; ``tensors``: x, h0, c0, y, saved, weights."""
        x, h0, c0, y, saved, *weights = tensors
        assert x is not None
        assert y is not None
        x_steps, y_steps = self.by_step(x), self.by_step(y)
        starts = [None if t is None else t.contiguous() for t in (h0, c0)]
        dy, dh, dc = gradients
        dy = None if dy is None else self.by_step(dy)
        dh, dc = (None if t is None else t.contiguous() for t in (dh, dc))
        made: list[OptionalTensor] = [
            torch.empty_like(t) if want and t is not None else None
            for t, want in zip([x_steps, *starts, *weights], wanted)
        ]
        arrays = [x_steps, *starts, y_steps, saved, dy, dh, dc, *made[:3]]
        self.function.backward(
            self.shape(),
            [0 if t is None else t.data_ptr() for t in arrays],
            [0 if w is None else w.data_ptr() for w in weights],
            [0 if t is None else t.data_ptr() for t in made[3:]],
            (self.dropout, self.key),
            use_up,
        )
        if made[0] is not None:
            made[0] = self.as_caller(made[0])
        return made

    def by_torch(
        self, x: Tensor, h0: OptionalTensor, c0: OptionalTensor, weights: Sequence[Tensor]
    ) -> tuple[Tensor, OptionalTensor, OptionalTensor]:
        """The same with PyTorch's operators, differentiable any number of times: (y, h, c), as ``Recurrent`` returns them."""
        spec = self.spec
        x = self.as_caller(x)
        x = x.unsqueeze(0) if self.single else x
        of_all = (spec.num_layers * spec.directions, self.rows, spec.hidden_size)
        h0 = x.new_zeros(of_all) if h0 is None else h0.reshape(of_all)
        if spec.cell == "lstm":
            c0 = x.new_zeros(of_all) if c0 is None else c0.reshape(of_all)
        each = len(weights) // spec.num_layers
        layers = spec.num_layers if self.dropout == 0 else 1
        h_all, c_all = [], []
        for first in range(0, spec.num_layers, layers):
            if first:  # dropout between layers: the mask of forward
                mask = torch.empty(x.shape, dtype=x.dtype)
                _core.dropout_mask(mask.data_ptr(), mask.numel(), self.dropout, (self.key, first - 1))
                x = x * mask
            part = slice(first * spec.directions, (first + layers) * spec.directions)
            hx: Any = h0[part]
            if c0 is not None and spec.cell == "lstm":
                hx = (hx, c0[part])
            own = list(weights[first * each : (first + layers) * each])
            options = (own, spec.bias, layers, 0.0, False, spec.bidirectional)
            if self.batch_sizes is None:
                x, *ends = _OPERATORS[spec.cell](x, hx, *options, False)
            else:
                x, *ends = _OPERATORS[spec.cell](x, self.batch_sizes, hx, *options)
            h_all.append(ends[0])
            c_all += ends[1:]
        h, c = torch.cat(h_all), torch.cat(c_all) if c_all else None
        if self.single:
            return x.squeeze(0), None, None if c is None else c.squeeze(0)
        return self.as_caller(x), h, c


class Recurrent(torch.autograd.Function):
    """The layer in autograd's graph: (call, x, h0, c0, *weights) -> (y, h, c)."""

    @staticmethod
    def forward(ctx: Any, call: Call, x: Tensor, h0: OptionalTensor, c0: OptionalTensor, *weights: Tensor) -> Any:
        out = call.forward(x, h0, c0, weights, save=True)
        ctx.call = call
        ctx.save_for_backward(x, h0, c0, out.y, out.saved, *weights)
        ctx.set_materialize_grads(False)
        return out.y, out.h, out.c

    @staticmethod
    def backward(ctx: Any, *gradients: OptionalTensor) -> Any:
        call: Call = ctx.call
        tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # create_graph: the gradient is differentiated too
            return (None, *differentiable(call, tensors, gradients, wanted))
        return (None, *call.backward(tensors, gradients, wanted, use_up=not keeps_graph()))


# ``Recurrent.apply`` without its search for transforms of torch.func, a third of its time: modules.observed has searched.
in_graph = super(torch.autograd.Function, Recurrent).apply


def differentiable(
    call: Call, tensors: Sequence[OptionalTensor], gradients: Sequence[OptionalTensor], wanted: Sequence[bool]
) -> list[OptionalTensor]:
    """As ``Call.backward``, in autograd's graph: forward again by PyTorch's operators, and their gradients."""
    x, h0, c0, _, _, *weights = tensors
    inputs = [x, h0, c0, *weights]
    assert x is not None
    before, torch_only.active = torch_only.active, True
    try:
        with torch.enable_grad():
            outputs = call.by_torch(x, h0, c0, [w for w in weights if w is not None])
    finally:
        torch_only.active = before
    pairs = [(y, dy) for y, dy in zip(outputs, gradients) if y is not None and dy is not None]
    found = iter(
        torch.autograd.grad(
            [y for y, _ in pairs],
            [t for t, want in zip(inputs, wanted) if want and t is not None],
            [dy for _, dy in pairs],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(found) if want and t is not None else None for t, want in zip(inputs, wanted)]
