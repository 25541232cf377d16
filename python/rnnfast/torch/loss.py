"""The cross-entropy of a linear layer's outputs, whose logits never exist all together."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rnnfast import _core
from rnnfast._expect import choice
from rnnfast.torch.call import address, keeps_graph
from rnnfast.torch.layer import observed, plain

_is_compiling = getattr(torch.compiler, "is_compiling", lambda: False)  # since PyTorch 2.2


class _LinearCrossEntropy(torch.autograd.Function):
    """(x, weight, bias, target, ignore_index, mean) -> loss. Forward computes the gradients too: it has the logits."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ignored: int, mean: bool
    ) -> Tensor:
        ctx.call = ignored, mean
        made = [None if t is None else torch.empty_like(t) for t in (x, weight, bias)]
        loss = _loss((x, weight, bias, target), made, ignored, mean)
        ctx.save_for_backward(x, weight, bias, target, *made)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (dloss,) = gradients
        x, weight, bias, target, *made = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # create_graph
            ignored, mean = ctx.call
            with torch.enable_grad():
                loss = F.cross_entropy(
                    F.linear(x, weight, bias), target, ignore_index=ignored, reduction="mean" if mean else "sum"
                )
            inputs = [t for t, want in zip((x, weight, bias), wanted) if want]
            found = iter(torch.autograd.grad(loss, inputs, dloss, create_graph=True))
            return (*(next(found) if want else None for want in wanted), None, None, None)
        # Without a graph to keep, forward's own tensors become the gradients: autograd then copies none of them.
        own, kept = dloss.item() == 1.0, keeps_graph()
        scaled = (
            None if t is None or not want else t * dloss if kept else t if own else t.mul_(dloss)
            for t, want in zip(made, wanted)
        )
        return (*scaled, None, None, None)


def _loss(tensors: Any, gradients: Any, ignored: int, mean: bool) -> Tensor:
    x, weight, bias, target = tensors
    sizes = (*x.shape, weight.shape[0], torch.get_num_threads())
    arrays = [address(t) for t in (x, weight, bias, target, *gradients)]
    loss: Tensor = x.new_tensor(_core.linear_cross_entropy(sizes, arrays, ignored, mean))
    return loss


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """``F.cross_entropy(F.linear(input, linear_weight, linear_bias), target)`` without all logits in memory at a time.

    The signature is that of PyTorch 2.13's ``torch.nn.functional.linear_cross_entropy``. Class weights, label smoothing, targets
    that are probabilities, ``reduction="none"`` and other types than float32 on the CPU are computed by PyTorch.

    Args:
        input: (..., H); linear_weight: (V, H); linear_bias: (V,); target: (...) class ids.
        ignore_index: a target that counts for nothing, by default -100.
        options: as PyTorch's; ignored, as there is nothing to choose here.

    >>> x, w = torch.randn(6, 4, requires_grad=True), torch.randn(9, 4)
    >>> bool(torch.isclose(linear_cross_entropy(x, w, torch.arange(6)), F.cross_entropy(x @ w.T, torch.arange(6))))
    True
    """
    choice(reduction, ("mean", "sum", "none"), "reduction")
    ignored = -100 if ignore_index is None else ignore_index
    tensors = [input, linear_weight, *([] if linear_bias is None else [linear_bias])]
    ours = (
        weight is None
        and reduction != "none"
        and label_smoothing == 0.0
        and not _is_compiling()
        and not observed()
        and all(plain(t) for t in tensors)
        and linear_weight.dim() == 2
        and input.dim() >= 1
        and input.shape[-1] == linear_weight.shape[1]
        and (linear_bias is None or linear_bias.shape == linear_weight.shape[:1])
        and not target.is_floating_point()
        and target.shape == input.shape[:-1]
        and input.numel() > 0
    )
    if not ours:
        logits = F.linear(input, linear_weight, linear_bias)
        if logits.dim() > 2 and not target.is_floating_point():
            logits, target = logits.flatten(0, -2), target.flatten()
        return F.cross_entropy(
            logits, target, weight, ignore_index=ignored, reduction=reduction, label_smoothing=label_smoothing
        )
    x = input.reshape(-1, input.shape[-1]).contiguous()
    ids = target.reshape(-1).to(torch.int64).contiguous()
    w = linear_weight.contiguous()
    bias = None if linear_bias is None else linear_bias.contiguous()
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        found: Tensor = _LinearCrossEntropy.apply(x, w, bias, ids, ignored, reduction == "mean")  # type: ignore[no-untyped-call]
        return found
    return _loss((x, w, bias, ids), (None, None, None), ignored, reduction == "mean")
