"""torch.nn.MultiheadAttention on rnnfast's core, where query, key and value are one tensor and nobody asks for the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rnnfast import _core
from rnnfast.torch.call import OptionalTensor, address
from rnnfast.torch.layer import Accelerated, is_compiling, observed, packed_for, plain, settings_of, why_not_weights
from rnnfast.torch.operator import function_of


class AttentionSpec(NamedTuple):
    """What the compiled function is made for."""

    embed_dim: int
    num_heads: int
    causal: bool
    bias: bool

    def function(self) -> _core.AttentionFunction:
        return _core.AttentionFunction(*self)

    def shapes(self) -> list[tuple[int, ...]]:
        """Of the parameters, in the order of ``weights_of``."""
        d = self.embed_dim
        return [(3 * d, d), (3 * d,), (d, d), (d,)] if self.bias else [(3 * d, d), (d, d)]


@dataclass
class AttentionCall:
    """The shapes and options of one call. x, y: (T, N, D), or (N, T, D) if ``batch_first``, without gaps.

    keys: [N] int64, how many of the first steps of each row are looked at; None: all.
    """

    spec: AttentionSpec
    function: _core.AttentionFunction
    steps: int
    rows: int
    batch_first: bool
    keys: np.ndarray | None

    def shape(self) -> tuple[int, int, int, int, int]:
        keys = 0 if self.keys is None else self.keys.ctypes.data
        return (self.steps, self.rows, self.batch_first, keys, torch.get_num_threads())

    def forward(
        self, x: Tensor, weights: Sequence[Tensor], save: bool, frozen: Any = None
    ) -> tuple[Tensor, OptionalTensor]:
        """y, and what backward needs."""
        y = torch.empty_like(x)
        saved = x.new_empty(self.function.saved_floats(self.steps, self.rows)) if save else None
        of = [] if frozen is not None else [w.data_ptr() for w in weights]
        self.function.forward(self.shape(), (x.data_ptr(), y.data_ptr(), address(saved)), of, frozen)
        return y, saved

    def backward(
        self, x: Tensor, saved: Tensor, weights: Sequence[Tensor], dy: Tensor, wanted: Sequence[bool]
    ) -> list[OptionalTensor]:
        """Gradients of x and the weights where ``wanted``."""
        dy = dy.contiguous()
        dx = torch.empty_like(x) if wanted[0] else None
        made = [torch.zeros_like(w) if want else None for w, want in zip(weights, wanted[1:])]
        arrays = (x.data_ptr(), saved.data_ptr(), dy.data_ptr(), address(dx))
        self.function.backward(self.shape(), arrays, [w.data_ptr() for w in weights], [address(d) for d in made])
        return [dx, *made]

    def by_torch(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """The same with PyTorch's operators, differentiable any number of times, which its fused one of ``need_weights=False`` is not."""
        x = x.transpose(0, 1) if self.batch_first else x
        w_in, b_in, w_out, b_out = weights if self.spec.bias else (weights[0], None, weights[1], None)
        hidden = causal = None
        if self.keys is not None:
            hidden = torch.arange(self.steps) >= torch.from_numpy(self.keys)[:, None]
        if self.spec.causal:
            causal = torch.ones(self.steps, self.steps, dtype=torch.bool).triu(1)
        y, _ = nn.functional.multi_head_attention_forward(
            x, x, x, self.spec.embed_dim, self.spec.num_heads, w_in, b_in, None, None, False, 0.0, w_out, b_out,
            key_padding_mask=hidden, need_weights=True, attn_mask=causal,
        )  # fmt: skip
        return y.transpose(0, 1) if self.batch_first else y


class Attention(torch.autograd.Function):
    """The layer in autograd's graph: (call, x, *weights) -> y."""

    @staticmethod
    def forward(ctx: Any, call: AttentionCall, x: Tensor, *weights: Tensor) -> Tensor:
        y, saved = call.forward(x, weights, save=True)
        ctx.call = call
        ctx.save_for_backward(x, saved, *weights)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (dy,), wanted = gradients, ctx.needs_input_grad[1:]
        x, saved, *weights = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return (None, *ctx.call.backward(x, saved, weights, dy, wanted))
        with torch.enable_grad():  # create_graph: the gradient is differentiated too
            y = ctx.call.by_torch(x, weights)
        inputs = [t for t, want in zip((x, *weights), wanted) if want]
        found = iter(torch.autograd.grad(y, inputs, dy, create_graph=True))
        return (None, *(next(found) if want else None for want in wanted))


def weights_of(module: Any) -> list[Any]:
    out = module.out_proj
    if module.in_proj_bias is None:
        return [module.in_proj_weight, out.weight]
    return [module.in_proj_weight, module.in_proj_bias, out.weight, out.bias]


def _why_not_options(module: Any) -> str | None:
    if not module._qkv_same_embed_dim:
        return "kdim or vdim: keys and values of other sizes"
    if module.bias_k is not None or module.add_zero_attn:
        return "add_bias_kv or add_zero_attn: keys that are not in the input"
    if module.training and module.dropout:
        return "dropout of the weights in training"
    return None


def _spec(module: Any, causal: bool) -> AttentionSpec:
    return AttentionSpec(module.embed_dim, module.num_heads, causal, module.in_proj_bias is not None)


def why_not_module(module: Any) -> str | None:
    """Why a layer runs by PyTorch's own operators whatever its input, or None."""
    return _why_not_options(module) or why_not_weights(weights_of(module), _spec(module, False).shapes())


def _padding(mask: Any, rows: int, steps: int) -> tuple[np.ndarray | None, bool]:
    """The number of keys of each row, and whether the mask hides no others than those that follow them."""
    if mask.dim() == 1:
        mask = mask.unsqueeze(0)
    if mask.shape != (rows, steps) or not mask.is_cpu:
        return None, False
    seen = _seen(mask)
    if seen is None:
        return None, False
    keys = seen.sum(1)
    suits = keys.min() > 0 and np.array_equal(seen, np.arange(steps) < keys[:, None])
    return keys.astype(np.int64), bool(suits)


def _seen(mask: Any) -> np.ndarray | None:
    """True where a mask lets pass; None if it is learned, or neither of booleans nor of 0 and -inf."""
    if mask.requires_grad:
        return None
    array: np.ndarray = mask.numpy()
    if mask.dtype == torch.bool:
        return ~array
    if mask.dtype != torch.float32:
        return None
    seen: np.ndarray = array == 0
    return seen if bool((seen | (array == -np.inf)).all()) else None


def _is_causal(mask: Any, steps: int) -> bool:
    if mask.shape != (steps, steps) or not mask.is_cpu:
        return False
    seen = _seen(mask)
    return seen is not None and np.array_equal(seen, np.tri(steps, dtype=bool))


def _plan(module: Any, x: Any, padding: Any, mask: Any, causal: bool) -> tuple[tuple[Any, ...], Tensor, bool] | None:
    """What an ``AttentionCall`` has but for its function, its x, and whether there is a batch dimension."""
    if not plain(x) or x.is_nested or observed() or x.dim() not in (2, 3) or x.shape[-1] != module.embed_dim:
        return None
    if causal and mask is None:  # PyTorch refuses it
        return None
    batched, batch_first = x.dim() == 3, module.batch_first
    x = x if batched else x.unsqueeze(0 if batch_first else 1)
    rows, steps = x.shape[:2] if batch_first else (x.shape[1], x.shape[0])
    if rows == 0 or steps == 0 or (mask is not None and not causal and not _is_causal(mask, steps)):
        return None
    keys = None
    if padding is not None:
        keys, suits = _padding(padding, rows, steps)
        if not suits:
            return None
    return (_spec(module, mask is not None), steps, rows, batch_first, keys), x.contiguous(), batched


def _run(module: Any, x: Any, padding: Any, mask: Any, causal: bool) -> Tensor | None:
    if _why_not_options(module):
        return None
    planned = _plan(module, x, padding, mask, causal)
    if planned is None:
        return None
    (spec, *shape), x, batched = planned
    found, weights = settings_of(module), weights_of(module)
    # Of causal calls too, which read the same packed weights: threads may run one layer.
    found.use(_spec(module, False))
    graph = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights))
    fits, packed = packed_for(found, weights, found.frozen and not graph)
    if not fits:
        return None
    call = AttentionCall(spec, function_of(spec, weights[0].data_ptr()), *shape)
    y: Tensor
    if graph:
        y = Attention.apply(call, x, *weights)  # type: ignore[no-untyped-call]
    else:
        y, _ = call.forward(x, weights, False, packed)
    return y if batched else y.squeeze(0 if call.batch_first else 1)


class MultiheadAttention(Accelerated, nn.MultiheadAttention, of=nn.MultiheadAttention):
    """torch.nn.MultiheadAttention on rnnfast's core: softmax(Q K^T / sqrt(D / heads)) V of every head, and both projections."""

    _why_not = staticmethod(why_not_module)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, OptionalTensor]:
        """PyTorch's, for all that is not self-attention with ``need_weights=False`` and a mask that is causal or of padding."""
        if key is query and value is query and not need_weights and not is_compiling():
            y = _run(self, query, key_padding_mask, attn_mask, is_causal)
            if y is not None:
                return y, None
        return super().forward(
            query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
        )
