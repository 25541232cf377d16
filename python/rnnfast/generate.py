"""Text from a model: a network, or an n-gram model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast import _core
from rnnfast._arrays import at_least, positive
from rnnfast.vocab import Decoder


def stream(
    model: Any,
    prompt: str,
    *,
    length: int = 200,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Iterator[str]:
    """Yields the prompt's continuation token by token, ready to print; a character of several byte-pair tokens comes with the last.

    Parameters
    ----------
    prompt : where to start from; tokens the model does not know read as ``<unk>``
    length : tokens to add
    temperature : 0 always takes the likeliest token; 1 samples as the model believes
    top_k : 0 for all tokens, else only the k likeliest
    top_p : only the likeliest tokens that together have this probability; 1 for all. After ``top_k``.
    seed : the same seed gives the same text

    Source: A. Holtzman et al., arXiv:1904.09751, for ``top_p``.
    """
    ids = _prompt_ids(model, prompt)
    at_least(length, 0, "length")
    options = _core.SamplerOptions(
        float(temperature), at_least(top_k, 0, "top_k"), float(top_p), at_least(seed, 0, "seed")
    )
    tokens = _network_tokens if hasattr(model, "_core") else _stepwise_tokens
    decoder = Decoder(model.vocab, int(ids[-1]))
    for token, _ in zip(tokens(model, ids, options), range(length)):
        yield decoder.text(token)
    if rest := decoder.rest():
        yield rest


def generate(
    model: Any,
    prompt: str,
    *,
    length: int = 200,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    beam_size: int = 1,
) -> str:
    """The prompt and its continuation; the parameters are :func:`stream`'s.

    With ``beam_size`` above 1 no chance is at work: of so many likeliest beginnings each is continued in every way, the
    likeliest are kept, and the likeliest of the last ones is returned.
    """
    if positive(beam_size, "beam_size") == 1:
        return prompt + "".join(
            stream(model, prompt, length=length, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
        )
    if temperature != 1.0 or top_k or top_p != 1.0:
        raise ValueError("beam search does not sample: leave temperature, top_k and top_p as they are, or beam_size 1")
    ids = _prompt_ids(model, prompt)
    added = _beam_search(model, ids, at_least(length, 0, "length"), beam_size)
    decoder = Decoder(model.vocab, int(ids[-1]))
    return prompt + "".join(map(decoder.text, added)) + decoder.rest()


def _prompt_ids(model: Any, prompt: str) -> NDArray[np.int32]:
    if model.vocab is None:
        raise ValueError("the model has no vocabulary to read a prompt with; use model.step with token ids")
    ids: NDArray[np.int32] = model.vocab.encode_text(prompt)
    if len(ids) == 0:
        raise ValueError(f"the prompt {prompt!r} has no token: expected at least one to start from")
    return ids


def _network_tokens(model: Any, ids: NDArray[np.int32], options: Any) -> Iterator[int]:
    """The compiled loop: no allocation from token to token."""
    generator = _core.Generator(model._core, ids, options)
    while True:
        yield generator.next()


def _stepwise_tokens(model: Any, ids: NDArray[np.int32], options: Any) -> Iterator[int]:
    """The same for any model with ``step``."""
    sampler = _core.Sampler(options)
    logits, state = _read(model, ids)
    while True:
        token = sampler.sample(logits[0])
        yield token
        logits, state = model.step([token], state)


def _read(model: Any, ids: NDArray[np.int32]) -> tuple[Any, Any]:
    state = None
    for token in ids:
        logits, state = model.step([token], state)
    return logits, state


def _beam_search(model: Any, ids: NDArray[np.int32], length: int, beam_size: int) -> list[int]:
    logits, state = _read(model, ids)
    beams, scores = np.zeros((1, 0), np.int64), np.zeros(1)
    for step in range(length):
        joint = scores[:, None] + _log_softmax(logits)
        best = np.argsort(-joint, axis=None, kind="stable")[:beam_size]  # ties go to the likelier beam, the lower id
        rows, tokens = np.divmod(best, joint.shape[1])
        scores = joint[rows, tokens]
        beams = np.concatenate([beams[rows], tokens[:, None]], axis=1)
        if step + 1 < length:
            logits, state = model.step(tokens, _rows_of(state, rows))
    return [int(token) for token in beams[0]]


def _log_softmax(logits: Any) -> NDArray[np.float64]:
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    log_p: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_p


def _rows_of(state: Any, rows: NDArray[np.int64]) -> Any:
    """The state (..., N, ...) of each new beam: that of the row it continues."""
    if isinstance(state, tuple):
        return tuple(_rows_of(part, rows) for part in state)
    return np.ascontiguousarray(state[:, rows])
