"""Markov models of any order, with the interface of the networks for evaluation and generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import as_ids, at_least, between
from rnnfast._expect import brief
from rnnfast.files import PathLike
from rnnfast.markov import arpa
from rnnfast.markov.arpa import HIGHEST_ORDER
from rnnfast.markov.grams import SMOOTHINGS, Grams, Ints, Reals, count, tokens_of
from rnnfast.text.corpus import Corpus, ids_of
from rnnfast.text.tokenise import END_OF_SENTENCE
from rnnfast.text.vocab import Vocab

_LARGEST = 1 << 26  # tokens of a vocabulary: a model has 32 bytes for each
_LARGEST_GUESS = 1 << 24  # tokens that the largest id alone may ask memory for


def _where_found(values: Reals, place: Ints, otherwise: Any) -> Reals:
    """``values[place]``, or ``otherwise`` where a place is -1; an order may have no n-grams, and then no values."""
    if len(values) == 0:
        return np.broadcast_to(otherwise, place.shape)
    return np.where(place >= 0, values[place], otherwise)


class NGram:
    r"""P(x_t | x_{t-n+1} … x_{t-1}): the next token depends on the last n - 1.

    ``"none"``: relative frequencies, of the longest part of the context that was seen;
    ``"laplace"``: :math:`(c(h, x) + \alpha) / (c(h) + \alpha V)`;
    ``"kneser_ney"``: interpolated modified Kneser-Ney,

    .. math:: P(x|h) = \frac{c(h, x) - D_{c(h, x)}}{c(h)} + \gamma(h) P(x|h'), \qquad
        \gamma(h) = \frac{D_1 N_1(h) + D_2 N_2(h) + D_3 N_{3+}(h)}{c(h)}

    with h' the context without its oldest token. Below the highest order, c is the number of different tokens that precede
    (h, x). P(x) without a context is interpolated with 1 / V, so the probabilities after any context sum to 1.

    Parameters
    ----------
    order : n, 1 to 16; 2 is the first-order Markov chain
    smoothing, alpha : as above
    sentence_end : contexts end at this token, if the vocabulary has it; None: contexts cross sentences

    Source: S. F. Chen and J. Goodman, TR-10-98, Harvard (1998).

    >>> model = NGram(2, "kneser_ney").fit(Corpus.from_text("to be or not to be"))
    >>> round(float(model.distribution("t").sum()), 12), model.sample(4, context="t", seed=0).shape
    (1.0, (4,))
    """

    nothing = -1  # an id of no token: what follows it has an empty context

    def __init__(
        self,
        order: int = 3,
        smoothing: str = "kneser_ney",
        *,
        alpha: float = 1.0,
        sentence_end: str | None = END_OF_SENTENCE,
    ) -> None:
        if isinstance(order, bool) or not isinstance(order, (int, np.integer)) or not 1 <= order <= HIGHEST_ORDER:
            raise ValueError(f"order is {brief(order)}, expected an integer from 1 to {HIGHEST_ORDER}")
        if not isinstance(smoothing, str) or smoothing not in SMOOTHINGS:
            raise ValueError(f"unknown smoothing {brief(smoothing)}: expected one of {', '.join(SMOOTHINGS)}")
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float, np.integer, np.floating)):
            raise TypeError(f"alpha is {brief(alpha)}, expected a number")
        if not 0 < alpha < float("inf"):
            raise ValueError(f"alpha is {alpha}, expected more than 0")
        if sentence_end is not None and not isinstance(sentence_end, str):
            raise TypeError(f"sentence_end is {brief(sentence_end)}, expected a token, or None")
        self.order, self.smoothing, self.alpha, self.sentence_end = int(order), smoothing, float(alpha), sentence_end
        self.vocab: Vocab | None = None
        self.vocab_size = 0
        self._grams: list[Grams] = []

    def __repr__(self) -> str:
        fitted = f", n-grams {self.counts}" if self._grams else ", not fitted"
        return f"NGram(order={self.order}, smoothing={self.smoothing!r}{fitted})"

    @property
    def counts(self) -> list[int]:
        """The number of different n-grams of each order."""
        return [len(g.keys) for g in self._grams]

    def fit(self, corpus: Corpus | ArrayLike, *, vocab_size: int | None = None) -> NGram:
        """Counts ``corpus``: a Corpus, or token ids with ``vocab_size`` (default: the largest id + 1)."""
        vocab = corpus.vocab if isinstance(corpus, Corpus) else None
        if vocab is not None:
            vocab_size = len(vocab)
        elif vocab_size is not None:
            between(vocab_size, 1, _LARGEST, "vocab_size")
        ids = ids_of(corpus, vocab_size)
        if len(ids) < 2:
            raise ValueError(f"the text has shape {ids.shape}, expected one row of at least 2 token ids")
        size = vocab_size or int(ids.max()) + 1
        if vocab_size is None and size > _LARGEST_GUESS:
            raise ValueError(
                f"the text's largest id is {size - 1}; if the vocabulary has {size} tokens, give vocab_size={size}"
            )
        self.vocab, self.vocab_size = vocab, size
        levels = count(ids.astype(np.int64), self.order, size, self._end())
        with np.errstate(divide="ignore"):  # log 0 is -inf, as it should be
            self._grams = [
                Grams(level.keys, np.log(p), np.log(backoff))
                for level, (p, backoff) in zip(levels, SMOOTHINGS[self.smoothing](levels, size, self.alpha))
            ]
        return self

    def _end(self) -> int:
        """The id that ends contexts; -1, which is not a token's id, for none."""
        if self.vocab is None or self.sentence_end is None or self.sentence_end not in self.vocab:
            return -1
        return self.vocab[self.sentence_end]

    def _ids(self, sequence: str | Sequence[str] | ArrayLike) -> Ints:
        """Token ids of a text, tokens or ids."""
        self._check_fitted()
        if isinstance(sequence, str) or (
            isinstance(sequence, (list, tuple)) and len(sequence) and all(isinstance(t, str) for t in sequence)
        ):
            if self.vocab is None:
                raise ValueError("the model has no vocabulary to read text with; give token ids")
            known = self.vocab.encode_text(sequence) if isinstance(sequence, str) else self.vocab.encode(sequence)
            return known.astype(np.int64)
        return as_ids(sequence, "the sequence", self.vocab_size, ndim=1).astype(np.int64)

    def _check_fitted(self) -> None:
        if not self._grams:
            raise ValueError("the model is not fitted yet; call fit first")

    def log_prob(self, sequence: str | Sequence[str] | ArrayLike) -> float:
        """Joint log-probability in nats of a text, tokens or ids, by the chain rule: the first token has no context."""
        ids = self._ids(sequence)
        if len(ids) == 0:
            return 0.0
        context = np.concatenate([[-1], ids[:-1]])
        return -float(self.nll(context[:, None], ids[:, None])[0].sum())

    def distribution(self, context: str | Sequence[str] | ArrayLike = ()) -> Reals:
        """P(x | context) for every token of the vocabulary, (V,); only the last order - 1 tokens matter."""
        p: Reals = np.exp(self._log_distribution(self._ids(context)))
        return p

    def _log_distribution(self, context: Ints) -> Reals:
        context = context[max(0, len(context) - self.order + 1) :]
        log_p: Reals = self._grams[0].log_p.copy()
        for n in range(1, len(context) + 1):
            place = self._place(context[len(context) - n :])
            if place < 0:
                continue
            log_p += self._grams[n - 1].log_backoff[place]
            grams, size = self._grams[n], self.vocab_size
            begin, end = np.searchsorted(grams.keys, [place * size, (place + 1) * size])
            log_p[grams.keys[begin:end] - place * size] = grams.log_p[begin:end]
        return log_p

    def _place(self, tokens: Ints) -> int:
        place = tokens[:1]
        for grams, token in zip(self._grams[1:], tokens[1:]):
            place = grams.find(place, np.atleast_1d(token), self.vocab_size)
        return int(place[0])

    def nll(self, x: ArrayLike, y: ArrayLike, state: ArrayLike | None = None) -> tuple[Reals, Ints]:
        """-log P of targets y (T, N) given the tokens x (T, N) up to theirs, and the state, as ``LanguageModel.nll``.

        In x, -1 stands for no token: tokens before it are ignored. Negative targets are ignored. The state is the last
        order - 1 tokens of every row, (order - 1, N), -1 for none.
        """
        self._check_fitted()
        x = as_ids(x, "x", self.vocab_size, least=-1).astype(np.int64)
        y = as_ids(y, "y", self.vocab_size, least=-(2**31)).astype(np.int64)
        if x.ndim != 2 or x.shape != y.shape:
            raise ValueError(f"x and y have shapes {x.shape} and {y.shape}, expected the same (T, N)")
        kept = self.order - 1
        before = self._state(state, x.shape[1])
        tokens = np.concatenate([before, x])
        first = self._grams[0]
        log_p = first.log_p[np.maximum(y, 0)]
        place = tokens  # of the n-gram that ends at each step, n = 1, 2, ...
        for lower, higher in zip(self._grams, self._grams[1:]):
            context = place[len(place) - len(x) :]
            found = higher.find(context, y, self.vocab_size)
            backed_off = log_p + _where_found(lower.log_backoff, context, 0.0)
            log_p = _where_found(higher.log_p, found, backed_off)
            place = higher.find(place[:-1], tokens[len(tokens) - len(place) + 1 :], self.vocab_size)
        return np.where(y >= 0, -log_p, 0.0), tokens[len(tokens) - kept :]

    def _state(self, state: ArrayLike | None, rows: int) -> Ints:
        if state is None:
            return np.full((self.order - 1, rows), -1, np.int64)
        tokens = as_ids(state, "state", self.vocab_size, least=-1).astype(np.int64)
        if tokens.shape != (self.order - 1, rows):
            raise ValueError(f"state has shape {tokens.shape}, expected {(self.order - 1, rows)}: (order - 1, N)")
        return tokens

    def step(self, tokens: ArrayLike, state: ArrayLike | None = None) -> tuple[NDArray[np.float32], Ints]:
        """log P (N, V) of what follows one token (N,) for each row, and the state after it."""
        self._check_fitted()
        row = as_ids(tokens, "tokens", self.vocab_size, ndim=1).astype(np.int64)[None, :]
        before = self._state(state, row.shape[1])
        after = np.concatenate([before, row])[1:] if self.order > 1 else before
        logits = np.stack([self._log_distribution(column[column >= 0]) for column in after.T])
        return logits.astype(np.float32), after

    def sample(self, length: int, *, context: str | Sequence[str] | ArrayLike = (), seed: int = 0) -> NDArray[np.int32]:
        """``length`` token ids, each drawn from the distribution given those before it."""
        random = np.random.default_rng(at_least(seed, 0, "seed"))
        between(length, 0, 2**31 - 1, "length")
        ids = list(self._ids(context))
        begin = len(ids)
        for _ in range(length):
            last = np.asarray(ids[-self.order :], np.int64)
            sums = np.cumsum(np.exp(self._log_distribution(last)))
            ids.append(min(int(np.searchsorted(sums, random.random() * sums[-1], "right")), self.vocab_size - 1))
        return np.asarray(ids[begin:], np.int32)

    def tokens_of(self, n: int) -> Ints:
        """Every n-gram of order ``n`` as token ids, (count, n), sorted."""
        self._check_fitted()
        if at_least(n, 1, "n") > self.order:
            raise ValueError(f"n is {n}, expected 1 to {self.order} (order)")
        return tokens_of([grams.keys for grams in self._grams[:n]], self.vocab_size)

    def save_arpa(self, path: PathLike) -> None:
        """Writes the model in the ARPA format, which kenlm, SRILM and others query; ``.gz`` packs it."""
        self._check_fitted()
        if self.vocab is None:
            raise ValueError("the model has no vocabulary, and ARPA holds words; fit it on a Corpus")
        tokens = [self.tokens_of(n) for n in range(1, self.order + 1)]
        arpa.write(path, self.vocab, self._end(), self._grams, tokens)

    @classmethod
    def from_arpa(cls, path: PathLike, *, tokenizer: str = "whitespace") -> NGram:
        """The model in an ARPA file of any program; ``tokenizer`` is the name of the tokenizer that turns texts into its tokens."""
        vocab, grams, sentence_end = arpa.read(path, tokenizer)
        model = cls(len(grams), sentence_end=sentence_end)
        model.vocab, model.vocab_size, model._grams = vocab, len(vocab), grams
        return model
