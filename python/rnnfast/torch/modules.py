"""torch.nn's recurrent layers with another forward: subclasses, so that all of the rest stays PyTorch's."""

from __future__ import annotations

from typing import Any, Callable, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rnnfast.torch import operator
from rnnfast.torch.call import Call, OptionalTensor, Spec, in_graph
from rnnfast.torch.layer import (
    Accelerated,
    Settings,
    autocast,
    autocast_dtype,
    is_compiling,
    observed,
    packed_for,
    plain,
    settings_of,
    why_not_weights,
)

# One step of an nn.RNNCell trains faster by PyTorch's operators below this many units in all rows: there, what autograd takes for a
# function in Python is more than the core saves.
FEW_FOR_TRAINING = 2048
_CELLS = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn", "RNN_RELU": "rnn_relu"}


def _spec(module: Any, precision: str) -> Spec:
    if isinstance(module, nn.RNNBase):
        cell = _CELLS[module.mode]
        return Spec(
            cell, module.input_size, module.hidden_size, module.num_layers, module.bias, module.bidirectional, precision
        )
    if isinstance(module, nn.RNNCell):
        cell = "rnn_relu" if module.nonlinearity == "relu" else "rnn"
    else:
        cell = "lstm" if isinstance(module, nn.LSTMCell) else "gru"
    return Spec(cell, module.input_size, module.hidden_size, 1, module.bias, False, precision)


def weights_of(module: Any) -> list[Any]:
    """In PyTorch's order, whatever takes a parameter's place: weight_norm, a parametrization, torch.func.functional_call."""
    names = module._flat_weights_names if isinstance(module, nn.RNNBase) else _cell_names(module)
    own = module._parameters
    try:
        return [own[name] for name in names]
    except KeyError:
        return [getattr(module, name, None) for name in names]


def _cell_names(module: Any) -> tuple[str, ...]:
    return ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if module.bias else ("weight_ih", "weight_hh")


def why_not_module(module: Any) -> str | None:
    """Why a layer runs by PyTorch's own operator whatever its input, or None."""
    if getattr(module, "proj_size", 0):
        return "proj_size: no cell with a projection"
    if module.hidden_size == 0:
        return "hidden_size is 0"
    found = settings_of(module)
    found.use(_spec(module, found.precision))
    return why_not_weights(weights_of(module), found.shapes)


def run(
    call: Call, found: Settings, x: Tensor, h0: OptionalTensor, c0: OptionalTensor, weights: list[Tensor]
) -> tuple[Tensor, OptionalTensor, OptionalTensor] | None:
    """One call, in autograd's graph if a gradient is wanted; None if the core does not read the weights."""
    graph = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (*weights, x, h0, c0))
    freezes = found.frozen and not graph and call.dropout == 0
    fits, packed = packed_for(found, weights, freezes)
    if not fits:
        return None
    if call.dropout:
        call.key = operator.new_key()
    if not graph:
        return call.forward(x, h0, c0, weights, save=False, frozen=packed)[:3]
    if found.precision == "int8":
        raise RuntimeError(
            "this layer was accelerated with weights='int8', which has no gradients: run it under torch.no_grad(), or "
            "accelerate(model, weights='f32') to train"
        )
    return in_graph(call, x, h0, c0, *weights)  # type: ignore[no-any-return]


def _run_layer(module: Any, settings: Settings, input: Any, hx: Any) -> Any:
    planned = _plan_layer(module, settings, input, hx)
    if planned is None:
        return None
    *call, batched = planned
    outputs = run(*call)
    return None if outputs is None else finish_layer(module, input, outputs, batched)


def _in_autocast(run_own: Any, module: Any, input: Any, hx: Any) -> Any:
    """As PyTorch's operators under bf16 autocast: bf16 products and outputs; other types of autocast are left to them."""
    if autocast_dtype() is not torch.bfloat16:
        return None
    with torch.autocast("cpu", enabled=False):
        found = run_own(
            module, settings_of(module).under_autocast(), _cast(input, torch.float32), _cast(hx, torch.float32)
        )
        return None if found is None else _cast(found, torch.bfloat16)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """The tensors of a bf16 or float32 input, state or output, in another of these types."""
    if isinstance(value, PackedSequence):
        return value._replace(data=_cast(value.data, dtype))
    if isinstance(value, tuple):
        return tuple(_cast(part, dtype) for part in value)
    lowers = isinstance(value, Tensor) and value.dtype in (torch.float32, torch.bfloat16)
    return value.to(dtype) if lowers else value


def finish_layer(module: Any, input: Any, outputs: Any, batched: bool) -> Any:
    """The outputs in the form that the input had."""
    y, h, c = outputs
    ends = h if c is None else (h, c)
    if isinstance(input, PackedSequence):
        y = PackedSequence(y, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
        return y, module.permute_hidden(ends, input.unsorted_indices)
    if not batched:
        y = y.squeeze(0 if module.batch_first else 1)
        ends = h.squeeze(1) if c is None else (h.squeeze(1), c.squeeze(1))
    return y, ends


def _plan_layer(module: Any, found: Settings, input: Any, hx: Any) -> Any:
    """What ``run`` takes, and whether there is a batch dimension."""
    packed = isinstance(input, PackedSequence)
    x = input.data if packed else input
    if not plain(x) or observed():
        return None
    dims, dropout = x.dim(), module.dropout if module.training and module.num_layers > 1 else 0.0
    if dims == 2 and not packed:
        x = x.unsqueeze(0 if module.batch_first else 1)
    call = _call_of_layer(module, found, x.shape, dropout, input.batch_sizes if packed else None)
    if call is None:
        return None
    batched = packed or dims == 3
    if packed and hx is not None:
        hx = module.permute_hidden(hx, input.sorted_indices)
    h0, c0, suits = _states(hx, call.spec, call.rows, batched)
    if not suits:
        return None
    return call, found, x, h0, c0, weights_of(module), batched


def _call_of_layer(module: Any, found: Settings, shape: Any, dropout: float, batch_sizes: Any) -> Call | None:
    """The last one again, if the layer and the shape of x are as they were."""
    sizes = (module.mode, module.input_size, module.hidden_size, module.num_layers, module.proj_size)
    key = (sizes, module.bias, module.bidirectional, module.batch_first, shape)
    again = dropout == 0 and batch_sizes is None
    known, call = found.last
    if again and key == known:
        return call
    if len(shape) != (3 if batch_sizes is None else 2) or 0 in shape or shape[-1] != module.input_size or dropout >= 1:
        return None
    if module.proj_size or module.hidden_size == 0:
        return None
    found.use(_spec(module, found.precision))
    spec: Spec = found.spec  # type: ignore[assignment]
    if batch_sizes is not None:
        if batch_sizes.device.type != "cpu" or not batch_sizes.is_contiguous():
            return None
        call = Call(spec, found.function, len(batch_sizes), int(batch_sizes[0]), batch_sizes, dropout=dropout)
    else:
        rows, steps = shape[:2] if module.batch_first else (shape[1], shape[0])
        call = Call(spec, found.function, steps, rows, None, module.batch_first, dropout=dropout)
    if again:
        found.last = (key, call)
    return call


def _states(
    hx: Any, spec: Spec, rows: int, batched: bool, fits: Any = plain
) -> tuple[OptionalTensor, OptionalTensor, bool]:
    """h0, c0, and whether they are what the core takes."""
    if hx is None:
        return None, None, True
    if spec.cell == "lstm":
        if not isinstance(hx, (tuple, list)) or len(hx) != 2:
            return None, None, False
        h0, c0 = hx
    else:
        h0, c0 = hx, None
    scans = spec.num_layers * spec.directions
    wanted = (scans, rows, spec.hidden_size) if batched else (scans, spec.hidden_size)
    for state in (h0, c0) if c0 is not None else (h0,):
        if not fits(state) or state.shape != wanted:
            return None, None, False
    if not batched:
        h0, c0 = h0.unsqueeze(1), None if c0 is None else c0.unsqueeze(1)
    return h0, c0, spec.cell != "lstm" or c0 is not None


def _trains_few(module: Any, settings: Settings, x: Any) -> bool:
    """Whether PyTorch's operators train this call faster. Before all other checks: here they would cost what they save."""
    return (
        torch.is_grad_enabled()
        and isinstance(module, nn.RNNCell)
        and settings.precision == "f32"
        and isinstance(x, Tensor)
        and x.numel() * module.hidden_size < FEW_FOR_TRAINING * module.input_size
    )


def _run_cell(module: Any, settings: Settings, input: Any, hx: Any) -> Any:
    if _trains_few(module, settings, input):
        return None
    planned = _plan_cell(module, settings, input, hx)
    if planned is None:
        return None
    outputs = run(*planned)
    return None if outputs is None else finish_cell(outputs[0], outputs[2], input.dim() == 2)


def finish_cell(h: Tensor, c: OptionalTensor, batched: bool) -> Any:
    if not batched:
        h, c = h.squeeze(0), None if c is None else c.squeeze(0)
    return h if c is None else (h, c)


def _plan_cell(module: Any, found: Settings, x: Any, hx: Any) -> Any:
    if not plain(x) or observed():
        return None
    dims = x.dim()
    x = x.unsqueeze(0) if dims == 1 else x
    call = _call_of_cell(module, found, x.shape)
    if call is None:
        return None
    weights = weights_of(module)
    if hx is None:
        return call, found, x, None, None, weights
    states: list[Any] = list(hx) if call.spec.cell == "lstm" else [hx, None]
    if len(states) != 2 or (call.spec.cell == "lstm" and (states[0] is None) != (states[1] is None)):
        return None
    for i, state in enumerate(states):
        if state is None:
            continue
        if not plain(state) or state.shape != call.states[2 - dims :]:
            return None
        states[i] = state if dims == 2 else state.unsqueeze(0)
    return call, found, x, *states, weights


def _call_of_cell(module: Any, found: Settings, shape: Any) -> Call | None:
    """The last one again, if the cell and the shape of x are as they were."""
    kind = getattr(module, "nonlinearity", "tanh")
    key = (kind, module.input_size, module.hidden_size, module.bias, shape)
    known, call = found.last
    if key == known:
        return call
    if len(shape) != 2 or 0 in shape or shape[1] != module.input_size or module.hidden_size == 0:
        return None
    if kind not in ("tanh", "relu"):  # PyTorch refuses any other when it runs
        return None
    found.use(_spec(module, found.precision))
    call = Call(found.spec, found.function, 1, shape[0], single=True)  # type: ignore[arg-type]
    found.last = (key, call)
    return call


def _traced(tensor: Any) -> bool:
    """``plain`` where torch.compile reads it."""
    return isinstance(tensor, Tensor) and tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def _traceable(module: Any, x: Any) -> bool:
    """Whether the operator stands for a layer in a graph. An exported program keeps PyTorch's, which run everywhere."""
    exporting = getattr(torch.compiler, "is_exporting", lambda: False)()
    return not (exporting or autocast() or module.__dict__.get("proj_size")) and _traced(x)


def _trace(spec: Spec, x: Any, batch_sizes: Any, rows: Any, states: Any, weights: list[Any], dropout: float) -> Any:
    """(y, h, c) from the operator, for x with its steps first."""
    h0, c0 = states
    tensors = [t for t in (x, h0, c0, *weights) if t is not None]
    save = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    key = torch.randint(0, 2**62, (1,), dtype=torch.int64, device="cpu") if dropout else None
    sizes = [spec.input_size, spec.hidden_size, spec.num_layers, int(spec.bias), int(spec.bidirectional)]
    y, h, c, _ = torch.ops.rnnfast.recurrent(
        x, rows, batch_sizes, h0, c0, weights, key, spec.cell, spec.weights, sizes, dropout, save
    )
    return y, h, c if spec.cell == "lstm" else None


def _trace_layer(module: Any, input: Any, hx: Any) -> Any:
    """What torch.compile reads instead of ``_plan_layer``; None: PyTorch's own forward."""
    packed = isinstance(input, PackedSequence)
    x = input.data if packed else input
    dims = x.dim()
    if not _traceable(module, x) or dims not in ((2,) if packed else (2, 3)):
        return None
    spec = _spec(module, "f32")
    weights = [getattr(module, name) for name in module._flat_weights_names]
    dropout = float(module.dropout) if module.training and spec.num_layers > 1 else 0.0
    if not all(_traced(w) for w in weights) or dropout >= 1:
        return None
    batched = packed or dims == 3
    if packed:
        hx = hx if hx is None else module.permute_hidden(hx, input.sorted_indices)
        rows = input.batch_sizes[0].item()
    else:
        if dims == 2:
            x = x.unsqueeze(1)
        elif module.batch_first:
            x = x.transpose(0, 1)
        rows = x.shape[1]
    h0, c0, fit = _states(hx, spec, rows, batched, _traced)
    if not fit:
        return None
    y, h, c = _trace(spec, x, input.batch_sizes if packed else None, rows, (h0, c0), weights, dropout)
    if module.batch_first and not packed:
        y = y.transpose(0, 1)
    return finish_layer(module, input, (y, h, c), batched)


def _trace_cell(module: Any, x: Any, hx: Any) -> Any:
    dims = x.dim()
    if not _traceable(module, x) or dims not in (1, 2):
        return None
    spec = _spec(module, "f32")
    weights = [getattr(module, name) for name in _cell_names(module)]
    x = x if dims == 2 else x.unsqueeze(0)
    states: list[Any] = [None, None] if hx is None else list(hx) if spec.cell == "lstm" else [hx, None]
    if not all(_traced(t) for t in [*weights, *(s for s in states if s is not None)]) or len(states) != 2:
        return None
    states = [None if s is None else s.reshape(1, x.shape[0], spec.hidden_size) for s in states]
    _, h, c = _trace(spec, x.unsqueeze(0), None, x.shape[0], states, weights, 0.0)
    return finish_cell(h.squeeze(0), None if c is None else c.squeeze(0), dims == 2)


class _Recurrent(Accelerated):
    """All of them."""

    _why_not = staticmethod(why_not_module)
    # Both give the outputs, or None: PyTorch's own forward then takes the call, or refuses it.
    _run: ClassVar[Callable[..., Any]]
    _trace: ClassVar[Callable[..., Any]]

    def forward(self, input: Any, hx: Any = None) -> Any:
        if is_compiling():
            found = self._trace(self, input, hx)
        else:
            found = self._run(self, settings_of(self), input, hx)
            if found is None and autocast():
                found = _in_autocast(self._run, self, input, hx)
        return super().forward(input, hx) if found is None else found  # type: ignore[misc]


class _Layer(_Recurrent):
    _run, _trace = staticmethod(_run_layer), staticmethod(_trace_layer)


class _Cell(_Recurrent):
    _run, _trace = staticmethod(_run_cell), staticmethod(_trace_cell)


class RNN(_Layer, nn.RNN, of=nn.RNN):
    """torch.nn.RNN on rnnfast's core: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), or relu."""


class GRU(_Layer, nn.GRU, of=nn.GRU):
    """torch.nn.GRU on rnnfast's core."""


class LSTM(_Layer, nn.LSTM, of=nn.LSTM):
    """torch.nn.LSTM on rnnfast's core."""


class RNNCell(_Cell, nn.RNNCell, of=nn.RNNCell):
    """torch.nn.RNNCell on rnnfast's core."""


class GRUCell(_Cell, nn.GRUCell, of=nn.GRUCell):
    """torch.nn.GRUCell on rnnfast's core."""


class LSTMCell(_Cell, nn.LSTMCell, of=nn.LSTMCell):
    """torch.nn.LSTMCell on rnnfast's core."""
