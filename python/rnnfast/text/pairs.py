"""Sentence pairs as ids, and minibatches for training translators."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnnfast._arrays import as_ids, at_least, positive
from rnnfast._expect import brief, kind_of
from rnnfast.files import PathLike
from rnnfast.protocols import Sampling, Shards
from rnnfast.text.corpus import Ids, Reading, check_fractions, check_vocab
from rnnfast.text.letters import Letters
from rnnfast.text.tokenise import BEGIN_OF_SENTENCE, BPE, END_OF_SENTENCE, PADDING, check_text, read_text
from rnnfast.text.vocab import Vocab

RESERVED = (PADDING, BEGIN_OF_SENTENCE, END_OF_SENTENCE)
PAD, BOS, EOS = 1, 2, 3  # their ids, after <unk>
_POOL = 100  # batches whose rows are sorted together


class PairBatch(NamedTuple):
    """What ``Seq2Seq.loss`` takes: sources (S, N) padded with ``<pad>``, their lengths (N,), and targets (T + 1, N) that
    begin with ``<bos>``, end with ``<eos>`` and are padded with -1."""

    source: Ids
    source_lengths: NDArray[np.int64]
    target: Ids


def encode_sentence(vocab: Vocab, sentence: str, max_length: int | None = None) -> Ids:
    """Ids of a sentence followed by ``<eos>``, truncated to at most ``max_length`` ids including ``<eos>``.

    The words ``<pad>``, ``<bos>`` and ``<eos>`` in a sentence are read as ``<unk>``.
    """
    ids = vocab.encode_part(sentence)[: None if max_length is None else max_length - 1]
    ids[(ids >= PAD) & (ids <= EOS)] = vocab.unk
    return np.append(ids, np.int32(EOS))


class ParallelCorpus:
    """Pairs of sentences as token ids, each ended by ``<eos>``, with their vocabularies.

    Ids 0 to 3 of both vocabularies are ``<unk>``, ``<pad>``, ``<bos>``, ``<eos>``. Pairs with an empty sentence are left out and
    counted in ``skipped``; ``truncated`` counts the sentences that were truncated to ``max_length``.

    The options of :meth:`from_pairs`, :meth:`from_files` and :meth:`from_file`:

    tokenizer : one of :func:`rnnfast.text.tokenize`, or ``"bpe"`` for vocabularies of ``vocab_size`` subwords (extra: ``hf``)
    lower : convert both sides to lower case; the vocabularies store this, so that translation does the same
    min_freq, max_vocab : on each side, rarer tokens, and all but the most frequent ones, are read as ``<unk>``
    max_length : the maximum number of ids of a sentence, including ``<eos>``; None: any
    source_vocab, target_vocab : vocabularies to use, with their tokenizers, instead of new ones, as for validation and test

    >>> pairs = ParallelCorpus.from_pairs([("go on .", "va !"), ("stop", "ça suffit !")], tokenizer="word")
    >>> pairs
    ParallelCorpus(2 word pairs, vocabularies of 8 and 8)
    >>> next(iter(pairs.batches(2))).target.T.tolist()
    [[2, 6, 4, 3, -1], [2, 7, 5, 4, 3]]
    """

    def __init__(
        self,
        source_ids: Sequence[Ids],
        target_ids: Sequence[Ids],
        source_vocab: Vocab,
        target_vocab: Vocab,
        *,
        sources: Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
        name: str = "pairs",
        skipped: int = 0,
        truncated: int = 0,
    ) -> None:
        check_text(name, "name")
        check_vocab(source_vocab, "source_vocab")
        check_vocab(target_vocab, "target_vocab")
        if len(source_ids) != len(target_ids):
            raise ValueError(f"{name}: {len(source_ids)} sources and {len(target_ids)} targets, expected equal numbers")
        if not len(source_ids):
            raise ValueError(
                f"{name} has no pair of sentences" + (f": all {skipped} have an empty side" * bool(skipped))
            )
        self.source_ids, self.target_ids = _rows(source_ids, source_vocab), _rows(target_ids, target_vocab)
        self.source_vocab, self.target_vocab, self.name = source_vocab, target_vocab, name
        self.skipped, self.truncated = skipped, truncated
        self.sources = _texts(sources, self.source_ids, source_vocab)
        self.targets = _texts(targets, self.target_ids, target_vocab)

    @classmethod
    def from_pairs(
        cls,
        pairs: Iterable[tuple[str, str]],
        *,
        tokenizer: str = "word",
        lower: bool = False,
        min_freq: int = 1,
        max_vocab: int | None = None,
        vocab_size: int = 8000,
        max_length: int | None = None,
        source_vocab: Vocab | None = None,
        target_vocab: Vocab | None = None,
        name: str = "pairs",
    ) -> ParallelCorpus:
        """From (source, target) sentences."""
        if max_length is not None and at_least(max_length, 1, "max_length") < 2:
            raise ValueError(f"max_length is {max_length}, expected at least 2: a token and {END_OF_SENTENCE}")
        check_text(name, "name")
        if isinstance(pairs, str) or not isinstance(pairs, Iterable):
            raise TypeError(f"{name} is {kind_of(pairs)}, expected a list of (source, target)")
        for side, given in (("source_vocab", source_vocab), ("target_vocab", target_vocab)):
            if given is not None:
                check_vocab(given, side)
        listed = list(pairs)
        for i, pair in enumerate(listed):
            if not isinstance(pair, (tuple, list)) or [isinstance(sentence, str) for sentence in pair] != [True, True]:
                raise TypeError(f"{name}: pair {i} is {brief(pair)}, expected two sentences")
        kept = [(source, target) for source, target in listed if source.strip() and target.strip()]
        sides, vocabs = [[pair[side] for pair in kept] for side in (0, 1)], []
        for side, sentences, given in zip(("sources", "targets"), sides, (source_vocab, target_vocab)):
            letters = Letters(tokenizer if given is None else given.tokenizer)
            for sentence in sentences:
                letters.read(sentence)
            letters.check(f"{name}: the {side}")
            if given is None:
                given = _new_vocab(sentences, tokenizer, lower, min_freq, max_vocab, vocab_size)
            elif given.idx_to_token[1:4] != list(RESERVED):
                raise ValueError(f"{given} has no {', '.join(RESERVED)} at ids 1 to 3: Vocab(..., reserved=[...])")
            vocabs.append(given)
        whole = [[encode_sentence(vocab, s) for s in sentences] for vocab, sentences in zip(vocabs, sides)]
        # Some tokenizers find no token in a sentence that is not empty.
        full = [i for i, (source, target) in enumerate(zip(*whole)) if min(len(source), len(target)) > 1]
        ids = [[_cut(sentences[i], max_length) for i in full] for sentences in whole]
        return cls(
            ids[0], ids[1], vocabs[0], vocabs[1], sources=[sides[0][i] for i in full], targets=[sides[1][i] for i in full], name=name,
            skipped=len(listed) - len(full),
            truncated=sum(len(a[i]) != len(b) for a, cut in zip(whole, ids) for i, b in zip(full, cut)),
        )  # fmt: skip

    @classmethod
    def from_files(cls, source: PathLike, target: PathLike, **options: Any) -> ParallelCorpus:
        """From two UTF-8 files, also ``.gz``, where line n of one translates line n of the other."""
        return cls.from_pairs(read_pairs(source, target), **{"name": f"{source}, {target}", **options})

    @classmethod
    def from_file(cls, path: PathLike, **options: Any) -> ParallelCorpus:
        """From one UTF-8 file, also ``.gz``, of lines ``source<TAB>target``; further columns are ignored."""
        return cls.from_pairs(read_pairs(path), **{"name": str(path), **options})

    def __len__(self) -> int:
        return len(self.source_ids)

    def __repr__(self) -> str:
        notes = [
            f"{n:,} {what}" for n, what in ((self.skipped, "empty ones left out"), (self.truncated, "truncated")) if n
        ]
        sizes = f"vocabularies of {len(self.source_vocab):,} and {len(self.target_vocab):,}"
        return f"ParallelCorpus({len(self):,} {self.target_vocab.tokenizer} pairs, {', '.join([sizes, *notes])})"

    def __getitem__(self, chosen: slice | Sequence[int] | NDArray[Any]) -> ParallelCorpus:
        """The pairs of a slice or of a list of indices, with the same vocabularies."""
        if isinstance(chosen, str) or not isinstance(chosen, (slice, Sequence, np.ndarray)):
            raise TypeError(f"the index is {brief(chosen)}, expected a slice or a list of indices")
        numbers = np.arange(len(self))[chosen]
        if numbers.ndim != 1:
            raise TypeError(f"the index is {brief(chosen)}, expected a slice or a list of indices")

        def of(side: Sequence[Any]) -> list[Any]:
            return [side[i] for i in numbers]

        return ParallelCorpus(
            of(self.source_ids), of(self.target_ids), self.source_vocab, self.target_vocab, sources=of(self.sources),
            targets=of(self.targets), name=self.name,
        )  # fmt: skip

    def split(self, *fractions: float, seed: int = 0) -> tuple[ParallelCorpus, ...]:
        """A random split: ``train, valid, test = pairs.split(0.9, 0.05, 0.05)``.

        Pairs with the same source are in the same part, so that no test sentence occurs in the training data.
        """
        keys = [ids.tobytes() for ids in self.source_ids]
        return tuple(self[part] for part in split_numbers(keys, fractions, seed=seed, name=self.name))

    def batch(self, numbers: Sequence[int] | NDArray[Any]) -> PairBatch:
        """The pairs with these indices as one batch, in this order."""
        if len(numbers) == 0:
            raise ValueError("the batch has no pairs, expected at least one")
        lengths = np.array([len(self.source_ids[i]) for i in numbers], np.int64)
        source = np.full((len(numbers), lengths.max()), PAD, np.int32)
        target = np.full((len(numbers), 1 + max(len(self.target_ids[i]) for i in numbers)), -1, np.int32)
        target[:, 0] = BOS
        for row, i in enumerate(numbers):
            source[row, : lengths[row]] = self.source_ids[i]
            target[row, 1 : 1 + len(self.target_ids[i])] = self.target_ids[i]
        return PairBatch(np.ascontiguousarray(source.T), lengths, np.ascontiguousarray(target.T))

    def batches(self, batch_size: int, *, seed: int = 0, epoch: int = 0, start: int = 0) -> PairBatches:
        """Minibatches of all pairs, each once, with rows of similar length; in every hundred batches one may have fewer rows.

        The same ``seed`` and ``epoch`` always give the same batches; ``start`` is the first batch, for resuming.
        """
        positive(batch_size, "batch_size")
        for name, number in (("seed", seed), ("epoch", epoch), ("start", start)):
            at_least(number, 0, name)
        random = np.random.default_rng([seed, epoch])
        order, chosen = random.permutation(len(self)), []
        for pool in range(0, len(order), _POOL * batch_size):
            rows = self._by_length(order[pool : pool + _POOL * batch_size])
            chosen += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        return PairBatches(self, [chosen[i] for i in random.permutation(len(chosen))], start)

    def in_order(self, batch_size: int) -> list[NDArray[np.int64]]:
        """Indices of the pairs in batches from short to long, for evaluation."""
        positive(batch_size, "batch_size")
        rows = self._by_length(np.arange(len(self)))
        return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]

    def reading(
        self, *, batch_size: int, seed: int, num_steps: int | None = None, sampling: Sampling | None = None
    ) -> Reading:
        """How ``fit`` reads pairs."""
        if num_steps is not None or sampling is not None:
            raise ValueError(
                f"num_steps is {num_steps} and sampling {brief(sampling)}, but pairs are read whole and in random order; "
                "ParallelCorpus(..., max_length=...) truncates long sentences"
            )
        return Reading(self.batches, batch_size=batch_size, seed=seed)

    def _by_length(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sorted by target length, then source length; the sort is stable."""
        sizes = [[len(side[i]) for i in numbers] for side in (self.source_ids, self.target_ids)]
        return numbers[np.lexsort(sizes)]


class PairBatches:
    """What :meth:`ParallelCorpus.batches` returns: iterate for :class:`PairBatch`; ``tokens`` counts the predictions."""

    carries_state = False  # no sentence continues another

    def __init__(self, pairs: ParallelCorpus, chosen: list[NDArray[np.int64]], first: int) -> None:
        self._pairs, self._chosen, self._first = pairs, chosen, first
        self.tokens = sum(len(ids) for ids in pairs.target_ids)

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[PairBatch]:
        for numbers in self._chosen[self._first :]:
            yield self._pairs.batch(numbers)

    def shards(self, own: range, count: int) -> Iterator[Shards]:
        """The same minibatches, of whose ``count`` groups of rows only those with the numbers ``own`` are read.

        Rows are sorted by length, so every ``count``-th belongs to a group: the groups take equally long.
        """
        for numbers in self._chosen[self._first :]:
            groups = [numbers[shard::count] for shard in own]
            parts = [self._pairs.batch(group) if len(group) else None for group in groups]
            yield Shards(parts, sum(len(self._pairs.target_ids[i]) for i in numbers))

    @staticmethod
    def predictions(batch: PairBatch) -> int:
        """The number of predicted tokens: the targets without ``<bos>`` and padding."""
        return int(np.count_nonzero(batch.target[1:] >= 0))


def split_numbers(
    keys: Sequence[Hashable], fractions: Sequence[float], *, seed: int = 0, name: str = "pairs"
) -> list[NDArray[np.int64]]:
    """A random split of 0 to len - 1, sorted within each part; indices with the same key are in the same part."""
    check_fractions(fractions)
    groups: dict[Hashable, int] = {}
    group_of = np.array([groups.setdefault(key, len(groups)) for key in keys], np.int64)
    place = np.random.default_rng(at_least(seed, 0, "seed")).permutation(len(groups))[group_of]
    order = np.argsort(place, kind="stable")
    wanted = np.round(np.cumsum(fractions) * len(keys)).astype(int)[:-1]
    ends = np.searchsorted(place[order], place[order][np.minimum(wanted, len(keys) - 1)])  # no group is split
    parts = np.split(order, ends)
    if min(map(len, parts)) < 1:
        raise ValueError(f"{name} has {len(keys)} pairs, too few for parts of {tuple(fractions)}")
    return [np.sort(part) for part in parts]


def read_pairs(source: PathLike, target: PathLike | None = None) -> list[tuple[str, str]]:
    """The sentences of two files with corresponding lines, or of one with ``source<TAB>target`` in every line.

    In a single file, a blank line is two empty sentences and a line without a tab is an error; so are two files of unequal length.
    """
    first = _lines(read_text(source))
    if target is not None:
        second = _lines(read_text(target))
        if len(first) != len(second):
            raise ValueError(
                f"{source} has {len(first):,} lines and {target} has {len(second):,}: expected equal numbers, "
                "where line n of one translates line n of the other"
            )
        return list(zip(first, second))
    pairs = []
    for number, line in enumerate(first, 1):
        columns = line.split("\t")
        if len(columns) < 2 and line.strip():
            raise ValueError(
                f"{source}: line {number} has no tab, expected source<TAB>target; or give a second file with the targets"
            )
        pairs.append((columns[0], columns[1]) if len(columns) > 1 else ("", ""))
    return pairs


def _lines(text: str) -> list[str]:
    # Not splitlines(): it also splits at characters within sentences, so the two sides would no longer correspond.
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _new_vocab(
    sentences: list[str], tokenizer: str, lower: bool, min_freq: int, max_vocab: int | None, vocab_size: int
) -> Vocab:
    if tokenizer == BPE:
        return Vocab.bpe("\n".join(sentences), vocab_size, reserved=RESERVED, lower=lower)
    reader = Vocab(tokenizer=tokenizer, lower=lower)
    tokens = (token for sentence in sentences for token in reader.tokenize(sentence))
    return Vocab(tokens, min_freq=min_freq, max_size=max_vocab, reserved=RESERVED, tokenizer=tokenizer, lower=lower)


def _rows(ids: Sequence[Ids], vocab: Vocab) -> list[Ids]:
    rows = [as_ids(row, f"{vocab.tokenizer} sentence {i}", len(vocab), ndim=1) for i, row in enumerate(ids)]
    return [np.ascontiguousarray(row, np.int32) for row in rows]


def _cut(ids: Ids, max_length: int | None) -> Ids:
    return ids if max_length is None or len(ids) <= max_length else np.append(ids[: max_length - 1], np.int32(EOS))


def _texts(given: Sequence[str] | None, ids: list[Ids], vocab: Vocab) -> list[str]:
    return list(given) if given is not None else [vocab.decode(sentence[:-1]) for sentence in ids]
