"""Text from a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rnnfast import _core
from rnnfast._arrays import at_least


def stream(
    model: Any, prompt: str, *, length: int = 200, temperature: float = 1.0, top_k: int = 0, seed: int = 0
) -> Iterator[str]:
    """Yields the prompt's continuation token by token, ready to print.

    Parameters
    ----------
    prompt : where to start from; tokens the model does not know read as ``<unk>``
    length : tokens to add
    temperature : 0 always takes the likeliest token; 1 samples as the model believes
    top_k : 0 for all tokens, else only the k likeliest
    seed : the same seed gives the same text
    """
    if model.vocab is None:
        raise ValueError("the model has no vocabulary to read a prompt with; use model.step with token ids")
    ids = model.vocab.encode_text(prompt)
    if len(ids) == 0:
        raise ValueError(f"the prompt {prompt!r} has no token: expected at least one to start from")
    at_least(length, 0, "length")
    generator = _core.Generator(
        model._core, ids, float(temperature), at_least(top_k, 0, "top_k"), at_least(seed, 0, "seed")
    )
    last = int(ids[-1])
    for _ in range(length):
        token = generator.next()
        # Decoded as a pair: whether a space comes before a word depends on the token before it.
        yield model.vocab.decode([last, token])[len(model.vocab.decode([last])) :]
        last = token


def generate(
    model: Any, prompt: str, *, length: int = 200, temperature: float = 1.0, top_k: int = 0, seed: int = 0
) -> str:
    """The prompt and its continuation; the parameters are :func:`stream`'s."""
    return prompt + "".join(stream(model, prompt, length=length, temperature=temperature, top_k=top_k, seed=seed))
