"""``enabled()``: PyTorch's recurrent operators themselves run here, for models whose modules cannot be changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Callable

import torch
from torch import library

from rnnfast.torch import call as calls
from rnnfast.torch.call import Call, Recurrent, Spec
from rnnfast.torch.layer import observed, plain, why_not_weights
from rnnfast.torch.operator import function_of, new_key

_LAYERS = {"lstm": "lstm", "gru": "gru", "rnn_tanh": "rnn", "rnn_relu": "rnn_relu"}
_CELLS = {"lstm_cell": "lstm", "gru_cell": "gru", "rnn_tanh_cell": "rnn", "rnn_relu_cell": "rnn_relu"}


def _run(call: Call, x: Any, hx: Any, weights: list[Any]) -> Any:
    """(y, h, c), or None if a tensor is not what the core takes."""
    spec = call.spec
    shapes = spec.shapes()
    if len(weights) != len(shapes) or why_not_weights(weights, shapes) or not plain(x) or not x.numel() or observed():
        return None
    if any(not plain(state) or state.shape != call.states for state in hx):
        return None
    h0, c0 = hx if spec.cell == "lstm" else (hx[0], None)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *hx, *weights)):
        return Recurrent.apply(call, x, h0, c0, *weights)  # type: ignore[no-untyped-call]
    return call.forward(x, h0, c0, weights, save=False)[:3]


def _layer(cell: str, packed: bool) -> Callable[..., Any]:
    def run(x: Any, *arguments: Any) -> Any:
        batch_sizes: Any = arguments[0] if packed else None
        arguments = arguments[1:] if packed else arguments
        hx, weights, bias, layers, dropout, train, bidirectional, *first = arguments
        states, batch_first = list(hx) if cell == "lstm" else [hx], bool(first and first[0])
        if x.dim() != (2 if packed else 3) or len(weights) < 2 or not states or weights[1].dim() != 2:
            return None
        spec = Spec(cell, x.shape[-1], weights[1].shape[1], layers, bias, bidirectional, "f32")
        if packed:
            steps, rows = len(batch_sizes), int(batch_sizes[0])
        else:
            steps, rows = (x.shape[1], x.shape[0]) if batch_first else (x.shape[0], x.shape[1])
        call = Call(spec, function_of(spec, weights[0].data_ptr()), steps, rows, batch_sizes, batch_first)
        if train and dropout and layers > 1:
            if dropout >= 1:
                return None
            call.dropout, call.key = dropout, new_key()
        outputs = _run(call, x, states, list(weights))
        return None if outputs is None else tuple(t for t in outputs if t is not None)

    return run


def _cell(cell: str) -> Callable[..., Any]:
    def run(x: Any, hx: Any, w_ih: Any, w_hh: Any, *biases: Any) -> Any:
        states = list(hx) if cell == "lstm" else [hx]
        given = [b for b in biases if b is not None]
        if x.dim() != 2 or w_hh.dim() != 2 or w_hh.shape[1] == 0 or len(given) == 1:
            return None
        spec = Spec(cell, x.shape[1], w_hh.shape[1], 1, bool(given), False, "f32")
        call = Call(spec, function_of(spec, w_ih.data_ptr()), 1, x.shape[0], single=True)
        outputs = _run(call, x, states, [w_ih, w_hh, *given])
        if outputs is None:
            return None
        return (outputs[0], outputs[2]) if cell == "lstm" else outputs[0]

    return run


def _or_torch(operator: Any, run: Callable[..., Any]) -> Callable[..., Any]:
    def kernel(*arguments: Any, **named: Any) -> Any:
        given = [*arguments, *named.values()]  # in the schema's order: TorchScript passes all of them by position
        found = None if calls.torch_only.active else run(*given)
        return operator.decompose(*arguments, **named) if found is None else found

    return kernel


@contextlib.contextmanager
def enabled() -> Iterator[None]:
    """While it is open, ``aten::lstm``, ``gru``, ``rnn_tanh``, ``rnn_relu`` and their cells run on rnnfast's core, in all threads.

    For models that ``accelerate`` cannot change, such as TorchScript archives. What the core does not run goes to PyTorch.

    >>> lstm = torch.nn.LSTM(4, 8)
    >>> with enabled(), torch.no_grad():
    ...     y, _ = lstm(torch.zeros(3, 2, 4))
    >>> y.shape
    torch.Size([3, 2, 8])
    """
    kernels: Any = library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    try:
        for name, cell in _LAYERS.items():
            for overload in ("input", "data"):
                operator = getattr(getattr(torch.ops.aten, name), overload)
                kernel = _or_torch(operator, _layer(cell, overload == "data"))
                for key in ("AutogradCPU", "CPU"):
                    kernels.impl(f"{name}.{overload}", kernel, key)
        for name, cell in _CELLS.items():
            kernel = _or_torch(getattr(torch.ops.aten, name).default, _cell(cell))
            for key in ("AutogradCPU", "CPU"):
                kernels.impl(name, kernel, key)
        yield
    finally:
        if hasattr(kernels, "_destroy"):
            kernels._destroy()
        else:  # PyTorch 2.1: the library goes with its last reference
            del kernels
