"""Translations by a sequence-to-sequence model: greedy, by beam search, with probabilities and attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Union, overload

import numpy as np
from numpy.typing import NDArray

from rnnfast import _core
from rnnfast._arrays import as_int32, between, positive, real
from rnnfast._expect import kind_of
from rnnfast.files import PathLike
from rnnfast.models.seq2seq import Seq2Seq
from rnnfast.nn.layer import Array
from rnnfast.text.pairs import BOS, EOS, PAD, RESERVED, encode_sentence
from rnnfast.text.tokenise import END_OF_SENTENCE, UNKNOWN
from rnnfast.text.vocab import Vocab

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Ids = NDArray[np.int32]
Sentence = Union[str, Sequence[int], Ids]


@dataclass(frozen=True)
class Translation:
    """One translation of a sentence.

    ``log_prob`` is log P(tokens, ``<eos>`` | source) in nats and ``score`` is ``log_prob / length**length_penalty``, where the
    length includes ``<eos>``. ``ended`` is false if ``max_length`` was reached first; then neither includes ``<eos>``.
    ``attention`` has a row for each token, one more for ``<eos>`` if the translation ended, and a column for each source token.

    >>> import rnnfast as rf
    >>> pairs = rf.ParallelCorpus.from_pairs([("a b", "b a"), ("b", "b")], tokenizer="whitespace")
    >>> model = rf.Seq2Seq(pairs.source_vocab, pairs.target_vocab, attention="additive", embedding_size=4, hidden_size=4, seed=0)
    >>> best = translate(model, ["a b"], attention=True)[0][0]
    >>> best.source_tokens, best.attention.shape[1], best.log_prob < 0
    (['a', 'b', '<eos>'], 3, True)
    """

    text: str
    tokens: list[str]
    ids: Ids
    log_prob: float
    score: float
    ended: bool
    source_tokens: list[str]
    attention: Array | None = None

    def plot(self, path: PathLike | None = None) -> Figure:
        """The attention as a heat map, source tokens from left to right, tokens from top to bottom, written to ``path`` if
        given (extra: ``plot``)."""
        if self.attention is None:
            raise ValueError("there is no attention to plot: translate with attention=True, a model that has attention")
        return _heat_map(self, path)


@overload
def translate(
    model: Seq2Seq,
    sentences: Sequence[Sentence],
    *,
    beam_size: int = 1,
    n_best: Literal[1] = 1,
    max_length: int | None = None,
    length_penalty: float = 0.75,
    batch_size: int = 64,
    attention: Literal[False] = False,
) -> list[str]: ...
@overload
def translate(
    model: Seq2Seq,
    sentences: Sequence[Sentence],
    *,
    beam_size: int = 1,
    n_best: int = 1,
    max_length: int | None = None,
    length_penalty: float = 0.75,
    batch_size: int = 64,
    attention: Literal[True],
) -> list[list[Translation]]: ...
@overload
def translate(
    model: Seq2Seq,
    sentences: Sequence[Sentence],
    *,
    beam_size: int = 1,
    n_best: int = 1,
    max_length: int | None = None,
    length_penalty: float = 0.75,
    batch_size: int = 64,
    attention: bool = False,
) -> list[str] | list[list[Translation]]: ...
def translate(
    model: Seq2Seq,
    sentences: Sequence[Sentence],
    *,
    beam_size: int = 1,
    n_best: int = 1,
    max_length: int | None = None,
    length_penalty: float = 0.75,
    batch_size: int = 64,
    attention: bool = False,
) -> list[str] | list[list[Translation]]:
    r"""Translates sentences into a list of texts; with ``n_best`` above 1 or ``attention``, returns what :func:`translations` does.

    The translation of a sentence without tokens is empty.

    .. math:: \mathrm{score}(y) = \frac{\log P(y_1, \dots, y_L \mid x)}{L^\alpha}, \quad y_L = \texttt{<eos>}, \quad \alpha = \mathtt{length\_penalty}

    Parameters
    ----------
    sentences : texts, or token ids without ``<eos>``
    beam_size : 1 takes the most probable token at each step; k above 1 keeps the k most probable prefixes, and returns the
        finished translation with the best score
    n_best : how many translations of each sentence, at most ``beam_size``
    max_length : the maximum number of tokens, including ``<eos>``; None: twice those of the sentence plus ten
    length_penalty : 0 compares log-probabilities, which favors short translations; more favors longer ones
    batch_size : sentences translated at a time; results are bit-identical for any value
    attention : return the attention weights, which the model must have

    ``<pad>`` and ``<bos>`` are never produced; ``<unk>`` may be. Raises ``TypeError`` for one text in place of a list, and
    ``ValueError`` for an ``n_best`` above ``beam_size`` or for the attention of a model that has none.

    Source: d2l.ai, section 10.8, for the search and the score.

    >>> import rnnfast as rf
    >>> pairs = rf.ParallelCorpus.from_pairs([("one", "1"), ("two", "2"), ("one two", "1 2"), ("two one", "2 1")])
    >>> model = rf.Seq2Seq(pairs.source_vocab, pairs.target_vocab, embedding_size=8, hidden_size=16, seed=0)
    >>> history = rf.fit(model, pairs, epochs=60, batch_size=4, lr=2e-2)
    >>> translate(model, ["two one", "two"]), translate(model, ["one"], beam_size=2)
    (['2 1', '2'], ['1'])
    """
    lists = n_best > 1 or bool(attention)
    options = _options(beam_size, n_best, max_length, length_penalty, scores=lists)
    found = _searched(model, sentences, options, batch_size, attention)
    if lists:
        return found
    return [best[0].text for best in found]


def translations(
    model: Seq2Seq,
    sentences: Sequence[Sentence],
    *,
    beam_size: int = 1,
    n_best: int = 1,
    max_length: int | None = None,
    length_penalty: float = 0.75,
    batch_size: int = 64,
    attention: bool = False,
) -> list[list[Translation]]:
    """For each sentence its ``n_best`` translations, best score first, or all if there are fewer; parameters as in
    :func:`translate`."""
    options = _options(beam_size, n_best, max_length, length_penalty, scores=True)
    return _searched(model, sentences, options, batch_size, attention)


def _options(
    beam_size: int, n_best: int, max_length: int | None, length_penalty: float, *, scores: bool
) -> _core.DecodeOptions:
    between(beam_size, 1, 2**31 - 1, "beam_size")
    if positive(n_best, "n_best") > beam_size:
        raise ValueError(f"n_best is {n_best}, expected at most beam_size, {beam_size}")
    longest = 0 if max_length is None else between(max_length, 1, 2**31 - 1, "max_length")
    return _core.DecodeOptions(
        beam_size, n_best, longest, real(length_penalty, "length_penalty"), PAD, BOS, EOS, scores
    )


def _searched(
    model: Seq2Seq, sentences: Sequence[Sentence], options: _core.DecodeOptions, batch_size: int, attention: bool
) -> list[list[Translation]]:
    _check_model(model)
    if attention and model.config["attention"] == "none":
        raise ValueError("the model has no attention: leave attention=False, or train with attention")
    positive(batch_size, "batch_size")
    sources = _encoded(model.source_vocab, sentences, "sentences")
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    found: list[list[Translation]] = [[] for _ in sources]
    for first in range(0, len(order), 16 * batch_size):  # Ctrl-C acts between them
        some = order[first : first + 16 * batch_size]
        results = _core.translate(model._core, [sources[i] for i in some], options, bool(attention), batch_size)
        for i, result in zip(some, results):
            found[i] = [_translation(model, sources[i], *each) for each in result]
    return found


def score_pairs(
    model: Seq2Seq, sources: Sequence[Sentence], targets: Sequence[Sentence], *, batch_size: int = 64
) -> NDArray[np.float64]:
    """log P(target, ``<eos>`` | source) of each pair, in nats, by forced decoding.

    For a translation by :func:`translate` this is bit-identical to its ``log_prob``.

    >>> import rnnfast as rf
    >>> model = rf.Seq2Seq(9, 9, embedding_size=4, hidden_size=4, seed=0)
    >>> score_pairs(model, [[4, 5], [6]], [[7], [8, 4]]).shape
    (2,)
    """
    _check_model(model)
    if len(sources) != len(targets):
        raise ValueError(f"{len(sources)} sources and {len(targets)} targets, expected equal numbers")
    positive(batch_size, "batch_size")
    options = _core.DecodeOptions(pad=PAD, bos=BOS, eos=EOS)
    read, wanted = _encoded(model.source_vocab, sources, "sources"), _encoded(model.target_vocab, targets, "targets")
    scores = [
        _core.score_pairs(
            model._core, read[i : i + 16 * batch_size], wanted[i : i + 16 * batch_size], options, batch_size
        )
        for i in range(0, len(read), 16 * batch_size)
    ]
    return np.concatenate([np.empty(0), *scores])


def _check_model(model: object) -> None:
    if not isinstance(model, Seq2Seq):
        raise ValueError(f"{kind_of(model)} does not translate: give an rf.Seq2Seq; rf.generate continues texts")
    for vocab in (model.source_vocab, model.target_vocab):
        if vocab is not None and vocab.idx_to_token[: EOS + 1] != [UNKNOWN, *RESERVED]:
            raise ValueError(
                f"the vocabulary begins with {vocab.idx_to_token[: EOS + 1]}, expected <unk>, <pad>, <bos>, <eos>"
            )


def _encoded(vocab: Vocab | None, sentences: Sequence[Sentence], name: str) -> list[Ids]:
    """Ids of each sentence, without ``<eos>``."""
    if isinstance(sentences, str):
        raise TypeError(f"{name} is one text, expected a list of sentences: [{sentences[:20]!r}]")
    encoded = []
    for i, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            encoded.append(as_int32(sentence if len(sentence) else np.empty(0, np.int32), f"{name}[{i}]"))
        elif vocab is None:
            raise ValueError(f"{name}[{i}] is text, but the model has no vocabulary to read it with: give token ids")
        else:
            encoded.append(encode_sentence(vocab, sentence)[:-1])
    return encoded


def _tokens(vocab: Vocab | None, ids: Ids) -> list[str]:
    return [str(i) for i in ids] if vocab is None else vocab.readable(ids)


def _translation(
    model: Seq2Seq, source: Ids, ids: Ids, log_prob: float, score: float, ended: bool, attention: Array | None
) -> Translation:
    vocab = model.target_vocab
    text = " ".join(_tokens(None, ids)) if vocab is None else vocab.decode(ids)
    read = [*_tokens(model.source_vocab, source), END_OF_SENTENCE]
    return Translation(text, _tokens(vocab, ids), ids, log_prob, score, ended, read, attention)


def _heat_map(translation: Translation, path: PathLike | None) -> Figure:
    from rnnfast.plot import finish, literals, new_figure

    figure, axes = new_figure()
    weights = translation.attention
    assert weights is not None
    down = [*translation.tokens, END_OF_SENTENCE][: len(weights)]
    figure.set_size_inches(2.5 + 0.45 * weights.shape[1], 2 + 0.3 * len(down))
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(weights.shape[1]), literals(translation.source_tokens), rotation=60, ha="right")
    axes.set_yticks(range(len(down)), literals(down))
    axes.set(xlabel="token that is read", ylabel="token that is written")
    axes.grid(False)
    figure.colorbar(image, label="attention weight")
    return finish(figure, path)
