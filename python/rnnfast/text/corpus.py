"""A text as ids, and the minibatches training reads from it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import as_ids, at_least, positive
from rnnfast._expect import brief, kind_of
from rnnfast.files import PathLike, checked_path
from rnnfast.protocols import EpochReader, Minibatches, ReadableText, Sampling, Shards
from rnnfast.text.letters import Letters
from rnnfast.text.mapped import read_ids, write_ids
from rnnfast.text.tokenise import (
    check_text,
    check_tokenizer,
    count_tokens,
    is_byte_level,
    read_pieces,
    tokens_of,
    whole_tokens,
)
from rnnfast.text.vocab import Vocab

Ids = NDArray[np.int32]
_PIECE = 1 << 22  # bytes of a chunk of text
SAMPLINGS = ("sequential", "random")


class Corpus:
    """A text as token ids, with their vocabulary: ``ids`` (T,) int32, and ``vocab``.

    Raises ``IndexError`` for an id outside the vocabulary; :meth:`from_text` raises ``ValueError`` for a text of fewer than two tokens.

    >>> corpus = Corpus.from_text("to be or not to be")
    >>> corpus, corpus.ids[:4].tolist()
    (Corpus(18 char tokens, vocabulary of 8), [3, 2, 1, 4])
    """

    _mapped: NDArray[Any] | None = None  # ids in a mapped file: read-only, and checked when it was opened

    def __init__(self, ids: ArrayLike, vocab: Vocab, *, name: str = "text") -> None:
        check_text(name, "name")
        check_vocab(vocab)
        self.ids: NDArray[Any] = np.ascontiguousarray(as_ids(ids, name, len(vocab), ndim=1), np.int32)
        self.vocab, self.name = vocab, name

    @classmethod
    def from_text(
        cls,
        text: str,
        *,
        tokenizer: str = "char",
        min_freq: int = 1,
        max_vocab: int | None = None,
        vocab: Vocab | None = None,
        name: str = "text",
    ) -> Corpus:
        """The tokens of ``text``, with ``vocab`` or, if it is None, the vocabulary of the whole text.

        Tokens rarer than ``min_freq``, and all but the ``max_vocab`` most frequent ones, are read as ``<unk>``.
        """
        check_text(name, "name")
        check_text(text, name)
        if vocab is None:
            vocab = Vocab(tokens_of(text, tokenizer), min_freq=min_freq, max_size=max_vocab, tokenizer=tokenizer)
        check_vocab(vocab)
        (ids,) = _encoded(vocab, [text], name)
        return cls(_at_least_two(ids, name), vocab, name=name)

    @classmethod
    def from_file(
        cls,
        path: PathLike | Sequence[PathLike],
        *,
        tokenizer: str = "char",
        min_freq: int = 1,
        max_vocab: int | None = None,
        vocab: Vocab | None = None,
        memory_map: PathLike | bool = False,
    ) -> Corpus:
        """:meth:`from_text` of a UTF-8 file, also ``.gz``, or of several files in sequence.

        With ``memory_map`` the text may be larger than memory: it is read in pieces, twice if there is no ``vocab``, and its ids are
        written to the file ``memory_map`` (True: the first path with ``.ids`` added), which is mapped. Tokens, vocabulary and batches
        are the same. :meth:`from_memory_map` opens the file again. :class:`rnnfast.Vocab` ``.bpe`` learns from a text in memory, for
        example a part of the file; give the result as ``vocab``.
        """
        paths = [*path] if isinstance(path, (list, tuple)) else [checked_path(path)]
        if not paths:
            raise ValueError("no file is given, expected at least one")
        name = ", ".join(map(checked_path, paths))
        check_tokenizer(tokenizer)
        if vocab is not None:
            check_vocab(vocab)
        size = -1 if memory_map is False else _PIECE
        if memory_map is not False:
            for each in paths:
                if os.path.exists(each) and not os.path.isfile(each):
                    raise ValueError(f"{each} is not a regular file, which memory_map needs to read it twice")
            if vocab is not None and vocab.rules is not None and not is_byte_level(vocab.rules):
                raise ValueError(
                    "memory_map reads a text in pieces, which needs the byte-level rules of Vocab.bpe; leave out memory_map"
                )
        total = None
        if vocab is None:
            counts: Counter[str] = Counter()
            for piece in _pieces(paths, tokenizer, False, size):
                count_tokens(piece, tokenizer, counts)
            vocab = Vocab.from_counts(counts, min_freq=min_freq, max_size=max_vocab, tokenizer=tokenizer)
            total = sum(counts.values())
        pieces = _encoded(vocab, _pieces(paths, vocab.tokenizer, vocab.lower, size), name)
        if memory_map is False:
            return cls(_at_least_two(np.concatenate(list(pieces)), name), vocab, name=name)
        target = f"{os.fspath(paths[0])}.ids" if memory_map is True else os.fspath(memory_map)
        write_ids(target, vocab, pieces, expected=total)
        return cls._of(read_ids(target, check=False)[0], vocab, name)

    @classmethod
    def from_memory_map(cls, path: PathLike) -> Corpus:
        """The corpus in a file that :meth:`from_file` wrote as its ``memory_map``, with its vocabulary."""
        return cls._of(*read_ids(path), os.fspath(path))

    @classmethod
    def _of(cls, ids: NDArray[Any], vocab: Vocab, name: str) -> Corpus:
        corpus = cls([], vocab, name=name)
        corpus.ids = corpus._mapped = ids
        return corpus

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Corpus({len(self)} {self.vocab.tokenizer} tokens, vocabulary of {len(self.vocab)})"

    def split(self, *fractions: float) -> tuple[Corpus, ...]:
        """Contiguous parts, in order: ``train, valid, test = corpus.split(0.9, 0.05, 0.05)``."""
        check_fractions(fractions)
        ends = np.round(np.cumsum(fractions) * len(self)).astype(int)
        parts = np.split(self.ids, ends[:-1])
        if min(map(len, parts)) < 2:
            raise ValueError(
                f"{self.name} has {len(self)} tokens, too few for parts of {fractions}: each needs at least 2"
            )
        make = Corpus if self._mapped is None else Corpus._of
        return tuple(make(part, self.vocab, name=self.name) for part in parts)


def check_fractions(fractions: Sequence[Any]) -> None:
    """Checks that the fractions are positive and sum to 1."""
    for f in fractions:
        if isinstance(f, bool) or not isinstance(f, (int, float, np.integer, np.floating)):
            raise TypeError(f"the split fraction {brief(f)} is {kind_of(f)}, expected a number")
    if not fractions or not all(f > 0 for f in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"split fractions {tuple(fractions)} must be positive and sum to 1")


def check_vocab(vocab: Any, name: str = "vocab") -> None:
    """``TypeError`` for anything but a Vocab."""
    if not isinstance(vocab, Vocab):
        raise TypeError(f"{name} is {kind_of(vocab)}, expected a Vocab")


def _at_least_two(ids: Ids, name: str) -> Ids:
    if len(ids) < 2:
        raise ValueError(
            f"{name} has {len(ids)} token{'s' * (len(ids) != 1)}, expected at least 2: one to read and one to predict"
        )
    return ids


def _pieces(paths: Sequence[PathLike], tokenizer: str, lower: bool, size: int) -> Iterator[str]:
    """The texts of the files, in pieces of whole tokens if ``size`` is positive."""
    for path in paths:
        pieces = read_pieces(path, size)
        yield from pieces if size < 0 else whole_tokens(pieces, tokenizer, lower=lower)


def _encoded(vocab: Vocab, pieces: Iterable[str], name: str) -> Iterator[Ids]:
    """The ids of the ``pieces`` of a text; after the last one, an error or a warning if the tokenizer drops most letters."""
    letters = Letters(vocab.tokenizer)
    for piece in pieces:
        yield vocab.encode_part(letters.read(piece))
    letters.check(name)


def ids_of(corpus: Corpus | ArrayLike, vocab_size: int | None = None) -> NDArray[Any]:
    """The ids (T,) of a Corpus or an array; all are below ``vocab_size`` and in the Corpus's vocabulary."""
    if not isinstance(corpus, Corpus):
        return as_ids(corpus, "the text", vocab_size, ndim=1)
    known = len(corpus.vocab)
    if corpus.ids is corpus._mapped and not corpus.ids.flags.writeable and (vocab_size is None or known <= vocab_size):
        return corpus.ids
    return as_ids(corpus.ids, corpus.name, known if vocab_size is None else min(vocab_size, known), ndim=1)


class Reading:
    """How ``fit`` reads a corpus: the ``settings`` that a checkpoint stores, and the batches of every epoch.

    The batches of an epoch have ``len``, ``tokens`` (the number of predictions), ``carries_state`` and ``predictions(batch)``; each
    batch is what ``model.loss`` takes.
    """

    def __init__(self, read: Callable[..., Minibatches[Any]], **settings: Any) -> None:
        self._read, self.settings = read, settings

    def epoch(self, number: int, start: int = 0) -> Minibatches[Any]:
        """The batches of an epoch, from batch ``start`` on."""
        return self._read(**self.settings, epoch=number, start=start)


def reading(
    corpus: ReadableText | Corpus | ArrayLike,
    *,
    batch_size: int,
    seed: int,
    num_steps: int | None = None,
    sampling: Sampling | None = None,
) -> EpochReader:
    """How a corpus is read: by its ``reading`` method if it has one, else as a text by :func:`batches`."""
    if isinstance(corpus, ReadableText):
        return corpus.reading(batch_size=batch_size, seed=seed, num_steps=num_steps, sampling=sampling)
    return Reading(
        partial(batches, corpus), batch_size=batch_size, num_steps=35 if num_steps is None else num_steps,
        sampling=sampling or "sequential", seed=seed,
    )  # fmt: skip


class Batches:
    """The result of :func:`batches`: iterates over (x, y); ``len`` is the number of batches, ``tokens`` that of predictions."""

    def __init__(
        self, starts: NDArray[np.int64], rows: NDArray[np.int64], steps: NDArray[np.int64], ids: NDArray[Any], carries_state: bool,
        first: int,
    ) -> None:  # fmt: skip
        """Row n of batch i begins at ``starts[i] + rows``: starts are (B, 1) or (B, N), rows (N,)."""
        self._starts, self._rows, self._steps, self._ids, self._first = starts, rows, steps, ids, first
        self.carries_state = carries_state
        self.tokens = int(steps.sum()) * len(rows)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[tuple[Ids, Ids]]:
        for begins, steps in self._places():
            yield self._batch(begins, steps)

    def shards(self, own: range, count: int) -> Iterator[Shards]:
        """The same batches, of whose ``count`` groups of rows only those with the numbers ``own`` are read."""
        rows = len(self._rows)
        if rows < count:
            raise ValueError(f"batch_size is {rows}, fewer than the {count} shards: each needs at least one row")
        for begins, steps in self._places():
            parts = [self._batch(begins[rows * shard // count : rows * (shard + 1) // count], steps) for shard in own]
            yield Shards(parts, int(steps) * rows, rows % count == 0)

    def _places(self) -> Iterator[tuple[NDArray[np.int64], np.int64]]:
        """Where the rows of each batch begin, and how many steps they have."""
        for start, steps in zip(self._starts[self._first :], self._steps[self._first :]):
            yield start + self._rows, steps

    def _batch(self, begins: NDArray[np.int64], steps: np.int64) -> tuple[Ids, Ids]:
        at = begins[None, :] + np.arange(steps)[:, None]
        return self._ids[at].astype(np.int32, copy=False), self._ids[at + 1].astype(np.int32, copy=False)

    @staticmethod
    def predictions(batch: tuple[Ids, Ids]) -> int:
        """The number of predicted tokens."""
        return batch[1].size


def batches(
    corpus: Corpus | ArrayLike,
    *,
    batch_size: int,
    num_steps: int,
    sampling: Sampling = "sequential",
    seed: int = 0,
    epoch: int = 0,
    start: int = 0,
) -> Batches:
    """Minibatches (x, y) of int32 (T, N), where y is x shifted by one token.

    The text starts at a random offset below ``num_steps``, which is different in each epoch.

    Parameters
    ----------
    corpus : Corpus, or an array of ids
    batch_size, num_steps : N and T; a last sequential batch may have fewer steps
    sampling : ``"sequential"`` splits the text into N parts that are read in parallel, so that each row of a batch
        continues the same row of the previous batch and the state carries over; ``"random"`` shuffles chunks of T tokens
    seed, epoch : the same values always give the same batches
    start : the first batch, for resuming

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
        raise ValueError(f"unknown sampling {brief(sampling)}: expected one of {', '.join(SAMPLINGS)}")
    random = np.random.default_rng([seed, epoch])
    offset = int(random.integers(num_steps))
    # In a short text the offset is limited to the tokens that no batch needs.
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
        return Batches(begins[:, None], rows, np.minimum(num_steps, length - begins), ids, True, start)
    count = left // num_steps // batch_size * batch_size
    begins = random.permutation(left // num_steps)[:count]
    begins *= num_steps  # in place: a long text has many
    starts = begins.reshape(-1, batch_size)
    return Batches(starts, np.full(batch_size, offset), np.full(len(starts), num_steps), ids, False, start)
