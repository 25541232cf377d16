"""Text from a model: a network, or an n-gram model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Callable, Union, overload

import numpy as np
from numpy.typing import NDArray

from rnnfast import _core
from rnnfast._arrays import at_least, between, positive, real
from rnnfast._expect import brief, kind_of, offers
from rnnfast.distributed.ranks import Ranks, as_ranks, share_of
from rnnfast.models.language_model import LanguageModel
from rnnfast.protocols import Array, Continuer, PairPredictor, State
from rnnfast.text.tokenise import BEGIN_OF_SENTENCE, PADDING
from rnnfast.text.vocab import Decoder, Vocab

NO_TOKEN = -1
Stop = Union[str, Sequence[str], None]
Ids = NDArray[np.int32]
Samples = Callable[[int], Iterator[int]]  # from the number of a sample to its endless tokens


def stream(
    model: Continuer[State],
    prompt: str,
    *,
    length: int = 200,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    no_repeat_ngram_size: int = 0,
    allow_unk: bool = True,
    stop: Stop = None,
) -> Iterator[str]:
    """Yields the prompt's continuation token by token, ready to print; a character of several byte-pair tokens is yielded with the last.

    Parameters
    ----------
    prompt : the text to continue; unknown tokens are read as ``<unk>``
    length : the maximum number of tokens to add
    temperature : 0 always takes the most probable token; 1 samples from the model's distribution
    top_k : 0 for all tokens, else only the k most probable
    top_p : only the most probable tokens that together have this probability; 1 for all. After ``top_k``.
    seed : the same seed gives the same text
    no_repeat_ngram_size : n above 0: no n-gram of tokens occurs twice, prompt included, as in Hugging Face's ``generate``
    allow_unk : False: ``<unk>``, ``<pad>`` and ``<bos>`` are never generated
    stop : one or more strings; the continuation ends before the first of them that would appear in it, as in OpenAI's API.
        The prompt is not searched. Text that could begin a stop string is held back until that is decided.

    Raises ``ValueError`` if the model's logits are NaN or infinite, or if the options leave no token to generate.

    Source: A. Holtzman et al., arXiv:1904.09751, for ``top_p``.

    >>> from rnnfast import Corpus, NGram
    >>> model = NGram(3).fit(Corpus.from_text("to be or not to be " * 9))
    >>> list(stream(model, "to b", length=4, temperature=0))
    ['e', ' ', 'o', 'r']
    """
    vocab, ids = _read_prompt(model, prompt)
    options = _sampler_options(vocab, temperature, top_k, top_p, seed, no_repeat_ngram_size, allow_unk)
    tokens = _samples(model, ids, options)(0)
    return _until(_stops(stop), _pieces(vocab, prompt, int(ids[-1]), tokens, at_least(length, 0, "length")))


@overload
def generate(
    model: Continuer[State],
    prompt: str,
    *,
    length: int = 200,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    no_repeat_ngram_size: int = 0,
    allow_unk: bool = True,
    stop: Stop = None,
    num_samples: None = None,
    beam_size: int = 1,
    distributed: Ranks | None = None,
) -> str: ...
@overload
def generate(
    model: Continuer[State],
    prompt: str,
    *,
    length: int = 200,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    no_repeat_ngram_size: int = 0,
    allow_unk: bool = True,
    stop: Stop = None,
    num_samples: int,
    beam_size: int = 1,
    distributed: Ranks | None = None,
) -> list[str]: ...
def generate(
    model: Continuer[State],
    prompt: str,
    *,
    length: int = 200,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    no_repeat_ngram_size: int = 0,
    allow_unk: bool = True,
    stop: Stop = None,
    num_samples: int | None = None,
    beam_size: int = 1,
    distributed: Ranks | None = None,
) -> str | list[str]:
    """The prompt and its continuation; with ``num_samples``, a list of that many. The other parameters are those of :func:`stream`.

    Samples draw from independent random streams of the seed; the first is the text that ``generate`` gives without
    ``num_samples``.

    With ``beam_size`` above 1 nothing is drawn at random: the ``beam_size`` most probable sequences are kept at each step,
    and the most probable one after ``length`` tokens is returned, up to the first stop string.

    With the ranks ``distributed``, an ``rf.distributed.MPI(...)``, each rank computes some of the samples, and every one gets all:
    the same texts as in one process.

    Raises ``ValueError`` for a prompt without a token, a model without a vocabulary, and wherever :func:`stream` does.

    >>> from rnnfast import Corpus, NGram
    >>> model = NGram(3).fit(Corpus.from_text("to be or not to be " * 9))
    >>> generate(model, "to b", length=12, temperature=0)
    'to be or not to '
    """
    vocab, ids = _read_prompt(model, prompt)
    options = _sampler_options(vocab, temperature, top_k, top_p, seed, no_repeat_ngram_size, allow_unk)
    at_least(length, 0, "length")
    stops, last = _stops(stop), int(ids[-1])
    if positive(beam_size, "beam_size") == 1:
        samples = _samples(model, ids, options)
        count = 1 if num_samples is None else positive(num_samples, "num_samples")
        ranks = as_ranks(distributed)
        own = [
            prompt + "".join(_until(stops, _pieces(vocab, prompt, last, samples(number), length)))
            for number in share_of(count, ranks.rank, ranks.size)
        ]
        texts = [text for some in ranks.all(own) for text in some]
        return texts[0] if num_samples is None else texts
    if temperature != 1.0 or top_k or top_p != 1.0 or num_samples is not None:
        raise ValueError(
            "beam search does not sample: leave temperature, top_k, top_p and num_samples at their defaults, or beam_size at 1"
        )
    added = _beam_search(
        model, ids, vocab=len(vocab), length=length, beam_size=beam_size,
        never=[] if allow_unk else _reserved_ids(vocab), no_repeat_ngram_size=no_repeat_ngram_size,
    )  # fmt: skip
    return prompt + "".join(_until(stops, _pieces(vocab, prompt, last, iter(added), length)))


def _sampler_options(
    vocab: Vocab,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    no_repeat_ngram_size: int,
    allow_unk: bool,
) -> _core.SamplerOptions:
    return _core.SamplerOptions(
        real(temperature, "temperature"),
        min(at_least(top_k, 0, "top_k"), len(vocab)),
        real(top_p, "top_p"),
        between(seed, 0, 2**64 - 1, "seed"),
        between(no_repeat_ngram_size, 0, 2**31 - 1, "no_repeat_ngram_size"),
        [] if allow_unk else _reserved_ids(vocab),
    )


def _reserved_ids(vocab: Vocab) -> list[int]:
    """Ids that stand for no text: ``<unk>``, and ``<pad>`` and ``<bos>`` if the vocabulary has them."""
    return [vocab.unk, *(vocab[token] for token in (PADDING, BEGIN_OF_SENTENCE) if token in vocab)]


def _stops(stop: Stop) -> list[str]:
    stops = [stop] if isinstance(stop, str) else list(stop or ())
    for text in stops:
        if not isinstance(text, str):
            raise TypeError(f"stop holds {brief(text)}, expected strings")
        if not text:
            raise ValueError("stop holds an empty string, which every text contains")
    return stops


def _read_prompt(model: Continuer[State], prompt: str) -> tuple[Vocab, Ids]:
    """The model's vocabulary, and the prompt's ids."""
    if isinstance(model, PairPredictor):
        raise TypeError(f"{kind_of(model)} does not continue texts: rf.translate translates them")
    offers(model, "model", "a LanguageModel or an NGram", "vocab", "step")
    if not isinstance(prompt, str):
        raise TypeError(f"the prompt is {kind_of(prompt)}, expected one text")
    vocab = model.vocab
    if vocab is None:
        raise ValueError("the model has no vocabulary to read a prompt with; use model.step with token ids")
    ids = vocab.encode_text(prompt)
    if len(ids) == 0:
        raise ValueError(f"the prompt {brief(prompt)} has no token: expected at least one to start from")
    return vocab, ids


def _pieces(vocab: Vocab, prompt: str, last: int, tokens: Iterator[int], length: int) -> Iterator[str]:
    """The texts of at most ``length`` tokens that follow the prompt, whose last token is ``last``."""
    decoder = Decoder(vocab, last)
    # Whitespace at the prompt's end that is not a token already separates the words.
    separated = prompt[-1:].isspace() and not vocab.decode([last])[-1:].isspace()
    for _, token in zip(range(length), tokens):
        piece = decoder.text(token)
        yield piece.lstrip(" ") if separated else piece
        separated = separated and not piece
    if rest := decoder.rest():
        yield rest


def _until(stops: list[str], pieces: Iterator[str]) -> Iterator[str]:
    """The pieces of text up to the first stop string; a suffix that may begin one is held until the next piece."""
    held = ""
    for piece in pieces:
        held += piece
        found = [at for at in (held.find(stop) for stop in stops) if at >= 0]
        if found:
            held = held[: min(found)]
            break
        open_end = max((_overlap(held, stop) for stop in stops), default=0)
        yield held[: len(held) - open_end]
        held = held[len(held) - open_end :]
    if held:
        yield held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest suffix of ``text`` that is a prefix of ``stop``."""
    return next(n for n in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:n]))


def _samples(model: Continuer[State], ids: Ids, options: _core.SamplerOptions) -> Samples:
    """Reads the prompt, once for all samples."""
    if isinstance(model, LanguageModel):  # the compiled loop: no allocation from token to token
        generator = _core.Generator(model._core, ids, options)
        return lambda number: iter(generator.numbered(number).next, None)
    sampler = _core.Sampler(options)
    sampler.read(ids)
    logits, state = _read(model, ids)
    return lambda number: _stepwise_tokens(model, logits, state, sampler.numbered(number))


def _stepwise_tokens(model: Continuer[State], logits: Array, state: State, sampler: _core.Sampler) -> Iterator[int]:
    """The tokens of any model with ``step``."""
    while True:
        token = sampler.sample(logits[0])
        yield token
        logits, state = model.step([token], state)


def _read(model: Continuer[State], ids: Ids) -> tuple[Array, State]:
    """Logits and state after the prompt."""
    logits, state = model.step(ids[:1])
    for token in ids[1:]:
        logits, state = model.step([token], state)
    return logits, state


def _beam_search(
    model: Continuer[State],
    ids: Ids,
    *,
    vocab: int,
    length: int,
    beam_size: int,
    never: list[int],
    no_repeat_ngram_size: int,
) -> list[int]:
    logits, state = _read(model, ids)
    begun = False

    def step(rows: NDArray[np.int64], tokens: Ids) -> Array:
        """Logits after the tokens that continue the given rows; in the first call, those after the prompt."""
        nonlocal logits, state, begun
        if begun:
            logits, state = model.step(tokens, _rows_of(state, rows))
        begun = True
        return np.asarray(logits, np.float32)

    options = _core.DecodeOptions(
        beam_size, 1, length, 0.0, NO_TOKEN, NO_TOKEN, NO_TOKEN, never=never, no_repeat_ngram_size=no_repeat_ngram_size
    )
    return _core.continuation(step, vocab, ids, options) if length else []


def _rows_of(state: Any, rows: NDArray[np.int64]) -> Any:
    """The state (..., N, ...) of each new beam, which is that of the row it continues."""
    if isinstance(state, tuple):
        return tuple(_rows_of(part, rows) for part in state)
    return np.ascontiguousarray(state[:, rows])
