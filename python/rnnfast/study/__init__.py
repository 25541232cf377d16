"""Studies of how networks behave: complexity and language-model comparisons, the unrolled network, and the flow of gradients."""

from __future__ import annotations

from rnnfast.study.explain import explain
from rnnfast.study.exploding import ExplodingGradients, exploding_gradients
from rnnfast.study.gradient_flow import GradientFlow, gradient_flow
from rnnfast.study.unroll import Unrolled, UnrolledStep, unroll

__all__ = [
    "ExplodingGradients",
    "GradientFlow",
    "Unrolled",
    "UnrolledStep",
    "explain",
    "exploding_gradients",
    "gradient_flow",
    "unroll",
]
