"""A text as ids, and the minibatches training reads from it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from rnnfast._arrays import as_ids, at_least, positive
from rnnfast.text import PathLike, read_text, tokenize
from rnnfast.vocab import Vocab

Ids = NDArray[np.int32]
SAMPLINGS = ("sequential", "random")


class Corpus:
    """A text as token ids, with the vocabulary they belong to.

    >>> corpus = Corpus.from_text("to be or not to be")
    >>> corpus, corpus.ids[:4].tolist()
    (Corpus(18 char tokens, vocabulary of 8), [3, 2, 1, 4])
    """

    def __init__(self, ids: Ids, vocab: Vocab, *, name: str = "text") -> None:
        self.ids: Ids = np.ascontiguousarray(as_ids(ids, name, len(vocab), ndim=1), np.int32)
        self.vocab, self.name = vocab, name

    @classmethod
    def from_text(
        cls,
        text: str,
        *,
        tokenizer: str = "char",
        min_freq: int = 1,
        vocab: Vocab | None = None,
        name: str = "text",
    ) -> Corpus:
        """Tokens of ``text``. The vocabulary is that of the whole text, unless ``vocab`` brings one."""
        vocab = vocab or Vocab(tokenize(text, tokenizer), min_freq=min_freq, tokenizer=tokenizer)
        ids = vocab.encode_text(text)
        if len(ids) < 2:
            raise ValueError(f"{name} has {len(ids)} tokens, expected at least 2: one to read and one to predict")
        return cls(ids, vocab, name=name)

    @classmethod
    def from_file(
        cls, path: PathLike, *, tokenizer: str = "char", min_freq: int = 1, vocab: Vocab | None = None
    ) -> Corpus:
        """:meth:`from_text` of a UTF-8 file."""
        return cls.from_text(read_text(path), tokenizer=tokenizer, min_freq=min_freq, vocab=vocab, name=str(path))

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Corpus({len(self)} {self.vocab.tokenizer} tokens, vocabulary of {len(self.vocab)})"

    def split(self, *fractions: float) -> tuple[Corpus, ...]:
        """Contiguous parts, in order: ``train, valid, test = corpus.split(0.9, 0.05, 0.05)``."""
        if not fractions or any(f <= 0 for f in fractions) or abs(sum(fractions) - 1) > 1e-6:
            raise ValueError(f"split fractions {fractions} must be positive and sum to 1")
        ends = np.round(np.cumsum(fractions) * len(self)).astype(int)
        parts = np.split(self.ids, ends[:-1])
        if min(map(len, parts)) < 2:
            raise ValueError(
                f"{self.name} has {len(self)} tokens, too few for parts of {fractions}: each needs at least 2"
            )
        return tuple(Corpus(part, self.vocab, name=self.name) for part in parts)


def ids_of(corpus: Any, vocab_size: int | None = None) -> NDArray[Any]:
    """The ids (T,) of a Corpus or an array, each of which ``vocab_size`` tokens have, or the Corpus's vocabulary."""
    if not isinstance(corpus, Corpus):
        return as_ids(corpus, "the text", vocab_size, ndim=1)
    known = len(corpus.vocab)
    return as_ids(corpus.ids, corpus.name, known if vocab_size is None else min(vocab_size, known), ndim=1)


class Reading:
    """How ``fit`` reads a corpus: ``settings``, which a checkpoint keeps, and the batches of every epoch.

    An epoch's batches have ``len``, ``tokens`` (predictions in all), ``carries_state`` and ``predictions(batch)``; each is what
    ``model.loss`` takes.
    """

    def __init__(self, read: Callable[..., Any], **settings: Any) -> None:
        self._read, self.settings = read, settings

    def epoch(self, number: int, start: int = 0) -> Any:
        """The batches of an epoch, from batch ``start`` on."""
        return self._read(**self.settings, epoch=number, start=start)


def reading(
    corpus: Any, *, batch_size: int, seed: int, num_steps: int | None = None, sampling: str | None = None
) -> Reading:
    """How a corpus is read: as its own ``reading`` says, else as a text by :func:`batches`."""
    own = getattr(corpus, "reading", None)
    if own is not None:
        said: Reading = own(batch_size=batch_size, seed=seed, num_steps=num_steps, sampling=sampling)
        return said
    return Reading(
        partial(batches, corpus), batch_size=batch_size, num_steps=35 if num_steps is None else num_steps,
        sampling=sampling or "sequential", seed=seed,
    )  # fmt: skip


class Batches:
    """What :func:`batches` returns: iterate for (x, y); ``len`` counts the batches, ``tokens`` the predictions."""

    def __init__(self, starts: NDArray[np.int64], steps: NDArray[np.int64], ids: Ids, carries_state: bool, first: int):
        self._starts, self._steps, self._ids, self._first = starts, steps, ids, first
        self.carries_state = carries_state
        self.tokens = int(steps.sum()) * starts.shape[1]

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[tuple[Ids, Ids]]:
        for start, steps in zip(self._starts[self._first :], self._steps[self._first :]):
            at = start[None, :] + np.arange(steps)[:, None]
            yield self._ids[at], self._ids[at + 1]

    @staticmethod
    def predictions(batch: tuple[Ids, Ids]) -> int:
        """How many tokens a batch predicts."""
        return batch[1].size


def batches(
    corpus: Any,
    *,
    batch_size: int,
    num_steps: int,
    sampling: str = "sequential",
    seed: int = 0,
    epoch: int = 0,
    start: int = 0,
) -> Batches:
    """Minibatches (x, y) of int32 (T, N), y being x shifted by one token.

    The text starts at a random offset below ``num_steps``, another one each epoch.

    Parameters
    ----------
    corpus : Corpus, or an array of ids
    batch_size, num_steps : N and T; a last sequential batch may have fewer steps
    sampling : ``"sequential"`` cuts the text into N parts that are read side by side, so that row n of a batch goes
        on where it stopped in the one before and state carries over; ``"random"`` shuffles stretches of T tokens
    seed, epoch : the same two always give the same batches
    start : the batch to begin with, for resuming

    >>> for x, y in batches(np.arange(9), batch_size=2, num_steps=2, epoch=2):
    ...     print(x.T.tolist(), y.T.tolist())
    [[1, 2], [4, 5]] [[2, 3], [5, 6]]
    [[3], [6]] [[4], [7]]
    """
    ids = ids_of(corpus)
    positive(batch_size, "batch_size")
    positive(num_steps, "num_steps")
    for name, number in (("seed", seed), ("epoch", epoch), ("start", start)):
        at_least(number, 0, name)
    if sampling not in SAMPLINGS:
        raise ValueError(f"unknown sampling {sampling!r}: expected one of {', '.join(SAMPLINGS)}")
    ids = np.ascontiguousarray(ids, np.int32)
    random = np.random.default_rng([seed, epoch])
    offset = int(random.integers(num_steps))
    # A short text keeps its tokens: the offset only moves within what is left over.
    needed = batch_size * (num_steps if sampling == "random" else 1)
    offset = min(offset, max(0, len(ids) - 1 - needed))
    left = len(ids) - 1 - offset  # predictions
    if left < needed:
        raise ValueError(
            f"the text has {len(ids)} tokens, fewer than one batch of {batch_size} x {num_steps} needs "
            f"({needed + 1}); give more text or a smaller batch_size or num_steps"
        )
    if sampling == "sequential":
        length = left // batch_size
        rows = offset + np.arange(batch_size) * length
        begins = np.arange(0, length, num_steps)
        return Batches(begins[:, None] + rows, np.minimum(num_steps, length - begins), ids, True, start)
    count = left // num_steps // batch_size * batch_size
    begins = offset + random.permutation(left // num_steps)[:count] * num_steps
    starts = begins.reshape(-1, batch_size)
    return Batches(starts, np.full(len(starts), num_steps), ids, False, start)
