"""How well a language model predicts a text, a translator its targets, or a network any targets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Union, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast import html
from rnnfast._arrays import positive
from rnnfast._expect import kind_of, offers
from rnnfast.distributed.ranks import Ranks, as_ranks, share_of
from rnnfast.models.dynamic import DynamicEvaluation, NeuralCache, adapted_nll
from rnnfast.models.examples import Data
from rnnfast.models.network import Network
from rnnfast.models.supervised import Metrics, Supervised
from rnnfast.nn.losses import LossLike
from rnnfast.protocols import PairPredictor, Predictor, State, Trainable
from rnnfast.text.corpus import Corpus, ids_of
from rnnfast.text.pairs import ParallelCorpus
from rnnfast.text.tokenise import BEGIN_OF_SENTENCE
from rnnfast.text.vocab import Vocab

Text = Union[Corpus, ParallelCorpus, ArrayLike]


@dataclass(frozen=True)
class Evaluation:
    """Perplexity exp(mean nll), bits per token, and the influence of unknown tokens.

    ``oov_rate`` is the share of targets that are ``<unk>``; ``perplexity_without_oov`` is that of the other targets.

    >>> from rnnfast.markov.ngram import NGram
    >>> corpus = Corpus.from_text("abababab")
    >>> found = evaluate(NGram(1, "none").fit(corpus), corpus)
    >>> round(found.perplexity, 3), round(found.bits_per_token, 3), found.tokens
    (2.0, 1.0, 7)
    """

    perplexity: float
    bits_per_token: float
    tokens: int
    oov_rate: float
    perplexity_without_oov: float

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)

    def _repr_html_(self) -> str:
        return html.table(type(self).__name__, ("measure", "value"), [*self.as_dict().items()])


@dataclass(frozen=True)
class PairEvaluation:
    """Perplexity exp(mean nll) of the target tokens, including ``<eos>``, each given the true ones before it;
    ``token_accuracy`` is the share of targets that are the model's most probable token.

    >>> import rnnfast as rf
    >>> pairs = rf.ParallelCorpus.from_pairs([("a b", "b a"), ("b", "b")], tokenizer="whitespace")
    >>> found = evaluate(rf.Seq2Seq(pairs.source_vocab, pairs.target_vocab, embedding_size=4, hidden_size=4, seed=0), pairs)
    >>> found.tokens, 0 <= found.token_accuracy <= 1
    (5, True)
    """

    perplexity: float
    token_accuracy: float
    tokens: int

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)

    def _repr_html_(self) -> str:
        return html.table(type(self).__name__, ("measure", "value"), [*self.as_dict().items()])


@dataclass(frozen=True)
class NetworkEvaluation:
    """The mean loss of a network's outputs, how many predictions it is the mean of, and the metrics by name.

    >>> import rnnfast as rf
    >>> net, x = rf.Sequential(rf.Linear(2, 2, seed=0)), np.ones((3, 4, 2))
    >>> found = evaluate(net, (x, net(x)), loss="mse", metrics=["mae"])
    >>> found.loss, found.predictions, found.metrics
    (0.0, 12, {'mae': 0.0})
    """

    loss: float
    predictions: int
    metrics: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"loss": self.loss, **self.metrics, "predictions": self.predictions}

    def _repr_html_(self) -> str:
        return html.table(type(self).__name__, ("measure", "value"), [*self.as_dict().items()])


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


@overload
def evaluate(
    model: Network,
    corpus: Data,
    *,
    loss: LossLike | Mapping[str, LossLike],
    metrics: Metrics = (),
    batch_size: int | None = None,
    distributed: Ranks | None = None,
) -> NetworkEvaluation: ...
@overload
def evaluate(
    model: PairPredictor,
    corpus: ParallelCorpus,
    *,
    batch_size: int | None = None,
    num_steps: int = 128,
    parts: int | None = None,
    distributed: Ranks | None = None,
) -> PairEvaluation: ...
@overload
def evaluate(
    model: Predictor[State],
    corpus: Corpus | ArrayLike,
    *,
    batch_size: int | None = None,
    num_steps: int = 128,
    parts: int | None = None,
    dynamic: DynamicEvaluation | None = None,
    cache: NeuralCache | None = None,
    distributed: Ranks | None = None,
) -> Evaluation: ...
@overload
def evaluate(
    model: Trainable,
    corpus: Text,
    *,
    batch_size: int | None = None,
    num_steps: int = 128,
    parts: int | None = None,
    distributed: Ranks | None = None,
) -> Evaluation | PairEvaluation: ...
def evaluate(
    model: object,
    corpus: Text | Data,
    *,
    loss: LossLike | Mapping[str, LossLike] | None = None,
    metrics: Metrics = (),
    batch_size: int | None = None,
    num_steps: int = 128,
    parts: int | None = None,
    dynamic: DynamicEvaluation | None = None,
    cache: NeuralCache | None = None,
    distributed: Ranks | None = None,
) -> Evaluation | PairEvaluation | NetworkEvaluation:
    r"""How well a model predicts a text, pairs of sentences, or the targets of a network.

    .. math:: \mathrm{perplexity} = \exp\Big(-\frac{1}{n} \sum_t \log P(x_t \mid x_1, \ldots, x_{t-1})\Big)

    For a text, an :class:`Evaluation`: predicts every token but the first, in order, and carries the state from the first
    to the last. For a ParallelCorpus, a :class:`PairEvaluation`: predicts every target token given its source. For a network, a
    :class:`NetworkEvaluation`.

    Parameters
    ----------
    model : a network or an ``NGram``; any :class:`rnnfast.protocols.Predictor`, or ``PairPredictor`` for pairs
    corpus : Corpus or ids; or ParallelCorpus for a ``Seq2Seq``; or data as in :func:`rnnfast.fit` for a network
    loss, metrics : of a network, as in :func:`rnnfast.fit`
    parts : split the text into that many parts, each of which starts from the initial state: they are computed in parallel, and
        the result is slightly pessimistic. None: ``batch_size``, or the shards of ``distributed``
    batch_size, num_steps : how many parts, and tokens of each, are computed at a time; for pairs, how many pairs; for a network,
        how many rows. None: 1, and 64 pairs, and 256 rows. For the same ``parts`` results are bit-identical
    dynamic, cache : of a language model and a text in one part: adapt the weights to the text as it is read, an
        ``rf.DynamicEvaluation``; mix the predictions with a cache of the last states, an ``rf.NeuralCache``. The model is not changed
    distributed : ranks that compute different parts of the text, or different pairs, an ``rf.distributed.MPI(...)``; every one gets the
        result, which is bit-identical to that of one process

    Raises ``ValueError`` for a text of fewer than two tokens, ``IndexError`` for an id outside the vocabulary, and ``TypeError`` for a
    text that is not a Corpus or ids.

    >>> from rnnfast.models.language_model import LanguageModel
    >>> result = evaluate(LanguageModel(4, hidden_size=3, seed=0), np.array([1, 2, 3, 1, 2]))
    >>> result.tokens, 1 < result.perplexity < 16
    (4, True)
    """
    ranks = as_ranks(distributed)
    adapts = dynamic is not None or cache is not None
    if adapts and (isinstance(model, Network) or isinstance(corpus, ParallelCorpus)):
        raise TypeError("dynamic evaluation and caches are for an rf.LanguageModel and a text")
    if isinstance(model, Network):
        if loss is None:
            raise ValueError('a network needs a loss: give loss="cross_entropy", "mse", ..., or a loss of rf.losses')
        rows = 256 if batch_size is None else positive(batch_size, "batch_size")
        return NetworkEvaluation(*Supervised(model, loss, metrics).evaluate(corpus, rows, ranks))
    if loss is not None or isinstance(metrics, Mapping) or len(metrics):
        raise ValueError(
            f"{kind_of(model)} has its own loss; loss and metrics are for networks such as an rf.Sequential"
        )
    if isinstance(corpus, ParallelCorpus):
        return _evaluate_pairs(
            _translator(model), pairs_for(model, corpus), 64 if batch_size is None else batch_size, ranks
        )
    positive(num_steps, "num_steps")
    predictor, ids = _predictor(model), ids_for(model, cast("ArrayLike", corpus))
    if parts is None:
        parts = ranks.shards if batch_size is None else positive(batch_size, "batch_size")
    parts = min(positive(parts, "parts"), len(ids) - 1)
    if batch_size is None:  # several parts at a time only where sums do not depend on it
        batch_size = 1 if distributed is None or len(ids) > _WHOLE else -(-parts // ranks.size)
    split = _Split(parts, positive(batch_size, "batch_size"), num_steps)
    if adapts and (parts > 1 or ranks.size > 1):
        raise ValueError(f"dynamic evaluation and caches read a text in one part, by one process; parts is {parts}")
    if len(ids) > _WHOLE and not adapts:
        return _evaluate_in_blocks(predictor, ids, split, ranks)
    nll = adapted_nll(model, ids, dynamic, cache) if adapts else _nll(predictor, ids, split, ranks)
    _check_numbers(nll)
    unknown = ids[1:] == 0 if predictor.vocab is not None else np.zeros(len(nll), bool)
    known = nll[~unknown]
    return _evaluation(
        float(nll.sum() / len(nll)), len(nll), float(unknown.mean()), float(known.mean()) if len(known) else math.nan
    )


def _evaluation(mean: float, tokens: int, oov_rate: float, mean_without_oov: float) -> Evaluation:
    return Evaluation(
        perplexity=_exp(mean),
        bits_per_token=mean / math.log(2),
        tokens=tokens,
        oov_rate=oov_rate,
        perplexity_without_oov=math.nan if math.isnan(mean_without_oov) else _exp(mean_without_oov),
    )


@dataclass(frozen=True)
class _Split:
    """How a text is split: into ``parts``, of which ``batch_size`` are computed at a time, ``num_steps`` tokens at a time."""

    parts: int
    batch_size: int
    num_steps: int

    def batches(self, ranks: Ranks) -> range:
        """The first parts of the batches of this rank."""
        count = -(-self.parts // self.batch_size)
        own = share_of(count, ranks.rank, ranks.size)
        return range(own.start * self.batch_size, own.stop * self.batch_size, self.batch_size)


def _evaluate_in_blocks(model: Predictor[State], ids: NDArray[Any], split: _Split, ranks: Ranks) -> Evaluation:
    """For a text that may be larger than memory: keeps sums only."""
    sums: list[float] = []
    sums_of_known: list[float] = []
    unknown = 0
    for _, _, y, nll in _blocks(model, ids, split, ranks):
        _check_numbers(nll)
        known = y > 0 if model.vocab is not None else y >= 0
        sums.append(float(nll[y >= 0].sum()))
        sums_of_known.append(float(nll[known].sum()))
        unknown += int(np.count_nonzero((y >= 0) & ~known))
    every = ranks.all((sums, sums_of_known, unknown))
    sums, sums_of_known = [sum_ for own, _, _ in every for sum_ in own], [sum_ for _, own, _ in every for sum_ in own]
    unknown = sum(own for _, _, own in every)
    tokens = len(ids) - 1
    left = math.fsum(sums_of_known) / (tokens - unknown) if tokens > unknown else math.nan
    return _evaluation(math.fsum(sums) / tokens, tokens, unknown / tokens, left)


def check_fits(model: object, corpus: Text) -> None:
    """Raises what :func:`evaluate` would raise for a corpus that does not fit ``model``."""
    if isinstance(corpus, ParallelCorpus):
        pairs_for(model, corpus)
    else:
        ids_for(model, corpus)


def _predictor(model: object) -> Predictor[Any]:
    if isinstance(model, PairPredictor):
        raise TypeError(f"a {type(model).__name__} reads pairs, a ParallelCorpus; a text needs a language model")
    if not hasattr(model, "nll"):
        raise TypeError(f"a {type(model).__name__} does not predict: give a LanguageModel or an NGram")
    return cast("Predictor[Any]", model)


def _translator(model: object) -> PairPredictor:
    if not isinstance(model, PairPredictor):
        raise TypeError(f"pairs need a translator, a Seq2Seq, not a {type(model).__name__}")
    return model


def ids_for(model: object, corpus: Corpus | ArrayLike) -> NDArray[Any]:
    """The ids of a text for ``model``; ``ValueError`` if it is too short or was encoded with another vocabulary."""
    vocab = _predictor(model).vocab
    if isinstance(corpus, Corpus) and vocab is not None and corpus.vocab != vocab:
        raise ValueError(
            "the text was encoded with another vocabulary; make it with Corpus.from_text(..., vocab=model.vocab)"
        )
    ids = ids_of(corpus, vocab_size_of(model))
    if len(ids) < 2:
        raise ValueError(f"the text has {len(ids)} token{'s' * (len(ids) != 1)}, expected at least 2")
    return ids


def vocab_size_of(model: object) -> int | None:
    """The size of the vocabulary of ``model``; None if it has no such attribute."""
    vocab = getattr(model, "vocab", None)
    if vocab is not None:
        return len(vocab)
    size = getattr(model, "vocab_size", None) or getattr(model, "config", {}).get("vocab_size")
    return None if size is None else int(size)


def pairs_for(model: object, pairs: ParallelCorpus) -> ParallelCorpus:
    """The pairs; ``TypeError`` if ``model`` is not a translator, ``ValueError`` if it has other vocabularies."""
    translator = _translator(model)
    for side, known, held in (
        ("source_vocab", translator.source_vocab, pairs.source_vocab),
        ("target_vocab", translator.target_vocab, pairs.target_vocab),
    ):
        if known is not None and known != held:
            raise ValueError(
                f"the pairs were encoded with another {side}; make them with ParallelCorpus.from_pairs(..., "
                "source_vocab=model.source_vocab, target_vocab=model.target_vocab)"
            )
    return pairs


def _evaluate_pairs(model: PairPredictor, pairs: ParallelCorpus, batch_size: int, ranks: Ranks) -> PairEvaluation:
    positive(batch_size, "batch_size")
    nll: list[NDArray[np.float64]] = [np.empty(0)] * len(pairs)
    right = 0
    for numbers in pairs.in_order(batch_size)[ranks.rank :: ranks.size]:
        batch = pairs.batch(numbers)
        lost, predicted = model.nll(*batch), model.predictions(*batch)
        wanted = batch.target[1:]
        right += int(np.count_nonzero((predicted == wanted) & (wanted >= 0)))
        for row, i in enumerate(numbers):
            nll[i] = lost[: len(pairs.target_ids[i]), row]
    if ranks.size > 1:
        every = ranks.all(({i: own for i, own in enumerate(nll) if len(own)}, right))
        right = sum(own for _, own in every)
        for found, _ in every:
            for i, own in found.items():
                nll[i] = own
    each = np.concatenate(nll)  # in the order of the pairs, so that the sum does not depend on the batches
    _check_numbers(each)
    return PairEvaluation(_exp(float(each.sum() / len(each))), right / len(each), len(each))


def _nll(model: Predictor[State], ids: NDArray[Any], split: _Split, ranks: Ranks) -> NDArray[np.float64]:
    """-log P of every token but the first, in the text's order."""
    nll = np.empty((-(-(len(ids) - 1) // split.parts), split.parts))
    for steps, rows, _, block in _blocks(model, ids, split, ranks):
        nll[steps, rows] = block
    if ranks.size > 1:
        own = split.batches(ranks)
        nll = np.concatenate(ranks.all(nll[:, own.start : min(own.stop, split.parts)]), axis=1)
    flat: NDArray[np.float64] = nll.T.ravel()[: len(ids) - 1]
    _check_numbers(flat)
    return flat


def _check_numbers(nll: NDArray[np.float64]) -> None:
    """A probability may be 0 and its -log infinite; NaN means that the weights are not finite."""
    if np.isnan(nll).any():
        raise ValueError(
            f"-log P is NaN at {int(np.isnan(nll).sum())} of {nll.size} tokens: the model's weights are not finite; "
            "load an earlier checkpoint, or train with a smaller lr or clip_norm"
        )


def _blocks(
    model: Predictor[State], ids: NDArray[Any], split: _Split, ranks: Ranks
) -> Iterator[tuple[slice, slice, NDArray[np.int32], NDArray[np.float64]]]:
    """The parts of the text that this rank computes: some steps of some of them, their targets and -log P."""
    length = -(-(len(ids) - 1) // split.parts)
    for n in split.batches(ranks):
        rows, state = slice(n, min(n + split.batch_size, split.parts)), None
        for t in range(0, length, split.num_steps):
            steps = slice(t, min(t + split.num_steps, length))
            at = np.arange(steps.start, steps.stop)[:, None] + np.arange(rows.start, rows.stop)[None, :] * length
            beyond = at > len(ids) - 2  # padding of the last part, which is not counted
            at[beyond] = 0
            x, y = ids[at].astype(np.int32), ids[at + 1].astype(np.int32)
            x[beyond], y[beyond] = 0, -1
            nll, state = model.nll(x, y, state)
            yield steps, rows, y, nll


_WHOLE = (
    1 << 24
)  # up to so many tokens every -log P is kept, and summed in an order that does not depend on the batches


Surprisals = list[tuple[str, float]]


@overload
def surprisal(model: Predictor[State], text: str, *, context: str = "") -> Surprisals: ...  # type: ignore[overload-overlap]
@overload
def surprisal(model: Predictor[State], text: Iterable[str], *, context: str = "") -> list[Surprisals]: ...
def surprisal(
    model: Predictor[State], text: str | Iterable[str], *, context: str = ""
) -> Surprisals | list[Surprisals]:
    """Each token of ``text`` and -log2 P(token | all before it), in bits; for a list of texts, a list of these.

    The first token follows ``context`` or, without one, the beginning of the text: an n-gram model has an empty context there, and a
    network reads ``<bos>`` if its vocabulary has it. Without ``<bos>`` a network cannot predict the first token, so the result
    begins with the second. For a model that was trained on lines, ``context="\\n"`` marks the beginning of a line. Several texts are
    read in batches, each from its own beginning; results are bit-identical to those of each text alone.

    >>> from rnnfast.markov.ngram import NGram
    >>> model = NGram(1, "none").fit(Corpus.from_text("abab"))
    >>> surprisal(model, "ab"), surprisal(model, ["ba", "b"], context="a")
    ([('a', 1.0), ('b', 1.0)], [[('b', 1.0), ('a', 1.0)], [('b', 1.0)]])
    """
    if isinstance(text, str):
        return _surprisals(model, [text], context)[0]
    return _surprisals(model, _as_texts(text), context)


@overload
def log_prob(model: Predictor[State], text: str, *, context: str = "") -> float: ...  # type: ignore[overload-overlap]
@overload
def log_prob(model: Predictor[State], text: Iterable[str], *, context: str = "") -> list[float]: ...
def log_prob(model: Predictor[State], text: str | Iterable[str], *, context: str = "") -> float | list[float]:
    """Joint log-probability of ``text`` in nats by the chain rule, P(x_1 ... x_T) = P(x_1) P(x_2 | x_1) ...: the sum over the tokens that
    :func:`surprisal` predicts. A network without ``<bos>`` therefore leaves out P(x_1) if there is no ``context``.

    For a list of texts, such as the lines of a file, a list: each text alone, with nothing added. Append ``"\\n"`` to include the end of
    a line.

    >>> from rnnfast.markov.ngram import NGram
    >>> log_prob(NGram(2, "none").fit(Corpus.from_text("abab")), ["ab", "", "b"])
    [-0.6931471805599453, 0.0, -0.6931471805599453]
    """
    if isinstance(text, str):
        return _log_prob(_surprisals(model, [text], context)[0])
    return [_log_prob(each) for each in _surprisals(model, _as_texts(text), context)]


def _log_prob(surprisals: Surprisals) -> float:
    return math.log(2) * -sum(bits for _, bits in surprisals)


def _as_texts(texts: object) -> list[str]:
    if isinstance(texts, (bytes, bytearray)) or not isinstance(texts, Iterable):
        raise TypeError(f"text is {kind_of(texts)}, expected a str or a list of them")
    listed = list(texts)
    for i, text in enumerate(listed):
        if not isinstance(text, str):
            raise TypeError(f"text {i} is {kind_of(text)}, expected a str")
    return listed


def _surprisals(model: Predictor[State], texts: list[str], context: str) -> list[Surprisals]:
    offers(model, "model", "a LanguageModel or an NGram", "vocab", "nll")
    vocab = model.vocab
    if vocab is None:
        raise ValueError("the model has no vocabulary to read text with; use model.nll with token ids")
    if not isinstance(context, str):
        raise TypeError(f"context is {kind_of(context)}, expected a str")
    before = vocab.encode_text(context)
    rows, counts = [], []  # the ids to read, and how many of them are predicted
    for text in texts:
        own = vocab.encode_text(text)
        rows.append(_from_the_beginning(model, vocab, np.concatenate([before, own])))
        counts.append(min(len(own), len(rows[-1]) - 1) if len(own) else 0)
    bits = [nll / math.log(2) for nll in _nll_of_rows(model, rows)]
    return [
        list(zip(vocab.readable(row[len(row) - n :]), each[len(each) - n :].tolist()))
        for row, each, n in zip(rows, bits, counts)
    ]


def _from_the_beginning(model: object, vocab: Vocab, ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """``ids``, preceded by the beginning that the first token is predicted from, if the model has one."""
    begin = getattr(model, "nothing", None)  # an n-gram model's
    if begin is None and BEGIN_OF_SENTENCE in vocab:
        begin = vocab[BEGIN_OF_SENTENCE]
    if begin is None or (len(ids) and ids[0] == begin):
        return ids
    return np.concatenate([np.array([begin], np.int32), ids])


def _nll_of_rows(model: Predictor[State], rows: list[NDArray[Any]]) -> list[NDArray[np.float64]]:
    """-log P of every token but the first of each row; rows of similar length share a batch."""
    found: list[NDArray[np.float64]] = [np.empty(0)] * len(rows)
    order = sorted((i for i, row in enumerate(rows) if len(row) > 1), key=lambda i: len(rows[i]))
    for first in range(0, len(order), _ROWS):
        some = order[first : first + _ROWS]
        length = len(rows[some[-1]]) - 1
        x, y = np.zeros((length, len(some)), np.int32), np.full((length, len(some)), -1, np.int32)
        for column, i in enumerate(some):
            x[: len(rows[i]) - 1, column], y[: len(rows[i]) - 1, column] = rows[i][:-1], rows[i][1:]
        nll, state = np.empty(x.shape), None
        for t in range(0, length, _TOKENS // len(some)):
            steps = slice(t, t + _TOKENS // len(some))
            nll[steps], state = model.nll(x[steps], y[steps], state)
        _check_numbers(nll)
        for column, i in enumerate(some):
            found[i] = nll[: len(rows[i]) - 1, column]
            _check_numbers(found[i])
    return found


_ROWS, _TOKENS = 32, 1024  # of a batch, and of each call
