"""N-gram models in the ARPA text format, which kenlm and SRILM read and write.

A line holds log10 P, the n-gram, and log10 of its backoff weight. ARPA has two tokens for the ends of a sentence,
``<s>`` and ``</s>``; a stream of text has one between two sentences, so ``<eos>`` is written as ``<s>`` where it begins
an n-gram and as ``</s>`` where it ends one, and read back so.
"""

from __future__ import annotations

import gzip
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from rnnfast.files import replacing
from rnnfast.grams import Grams, Ints, Reals
from rnnfast.text import END_OF_SENTENCE, UNKNOWN, PathLike, read_text
from rnnfast.vocab import Vocab

BEGIN, END = "<s>", "</s>"
_ZERO = -99.0  # stands for log10 0
_LOG_10 = np.log(10.0)
_PART = 1 << 17  # characters of lines that are read together: their words still lie in L2


def write(path: PathLike, vocab: Vocab, end: int, grams: Sequence[Grams], tokens: Sequence[Ints]) -> None:
    """Writes n-grams and their ``tokens``, (count, n) an order, to ``path``, whose old file stays until the new one is whole.

    ``end`` is the id of ``<eos>`` if contexts do not reach back over it, else -1: then it is a word like others.
    """
    for token in vocab.idx_to_token:
        if not token or re.search(r"\s", token) or token in (BEGIN, END):
            raise ValueError(f"the token {token!r} cannot stand in an ARPA file, which separates words by white space")
    with _lines_to(path) as lines:
        _write_header(lines, [len(g.keys) for g in grams], 1 if end >= 0 else 2)
        for n, (level, ids) in enumerate(zip(grams, tokens), 1):
            lines.write(f"\n\\{n}-grams:\n")
            _write_section(lines, vocab, end, level, ids, highest=n == len(grams))
        lines.write("\n\\end\\\n")


@contextmanager
def _lines_to(path: PathLike) -> Iterator[IO[str]]:
    if not os.fspath(path).endswith(".gz"):
        with replacing(path, text=True) as lines:
            yield lines
        return
    with (
        replacing(path) as file,
        gzip.GzipFile("", "wb", compresslevel=4, fileobj=file) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as lines,
    ):
        yield lines


def _write_header(lines: IO[str], sizes: list[int], added: int) -> None:
    lines.write("\\data\\\n")
    for n, size in enumerate(sizes, 1):
        lines.write(f"ngram {n}={size + added * (n == 1)}\n")


def _write_section(lines: IO[str], vocab: Vocab, end: int, grams: Grams, ids: Ints, *, highest: bool) -> None:
    words = np.array(vocab.idx_to_token, object)
    first, last = words.copy(), words.copy()
    log_p, log_backoff = _to_log10(grams.log_p), _to_log10(grams.log_backoff)
    if end >= 0:
        first[end], last[end] = BEGIN, END
    if ids.shape[1] == 1:  # one unigram <eos> is written as two: <s> is never predicted, nothing follows </s>
        lines.write(f"{_ZERO}\t{BEGIN}\t{log_backoff[end] if end >= 0 else 0:.7f}\n")
        if end >= 0:
            log_backoff[end] = 0.0
        else:
            lines.write(f"{_ZERO}\t{END}\n")
        columns = [last[ids[:, 0]]]
    else:
        columns = [first[ids[:, 0]], *words[ids[:, 1:-1].T], last[ids[:, -1]]]
    joined = map(" ".join, zip(*columns))
    if highest:
        lines.writelines(f"{p:.7f}\t{gram}\n" for p, gram in zip(log_p.tolist(), joined))
    else:
        rows = zip(log_p.tolist(), joined, log_backoff.tolist())
        lines.writelines(f"{p:.7f}\t{gram}\t{b:.7f}\n" for p, gram, b in rows)


def _to_log10(natural: Reals) -> Reals:
    clipped: Reals = np.maximum(natural / _LOG_10, _ZERO)
    return clipped


def read(path: PathLike, tokenizer: str) -> tuple[Vocab, list[Grams], str | None]:
    """Vocabulary, n-grams, and ``<eos>`` if it ends sentences. ``ValueError`` names what is wrong with the file."""
    name = os.fspath(path)
    lines = _Lines(read_text(path))  # UTF-8, or refused
    sizes = _read_header(name, lines)
    log_p, log_backoff, words = _read_section(name, lines, 1, sizes[0], None)
    vocab, unigrams, ends = _read_unigrams(name, [word.decode() for word in words], log_p, log_backoff, tokenizer)
    grams = [unigrams]
    ids = {token.encode(): i for token, i in vocab.token_to_idx.items()}
    if ends:
        ids[BEGIN.encode()] = ids[END.encode()] = ids[END_OF_SENTENCE.encode()]
    for n, size in enumerate(sizes[1:], 2):
        log_p, log_backoff, *tokens = _read_section(name, lines, n, size, ids)
        place = tokens[0]
        for level, column in zip(grams[1:], tokens[1:-1]):
            place = level.find(place, column, len(vocab))
        if len(place) and place.min() < 0:
            gram = " ".join(vocab.idx_to_token[column[place.argmin()]] for column in tokens)
            raise ValueError(f"{name}: the {n}-gram {gram!r} stands without its first {n - 1} words as an n-gram")
        keys = place * len(vocab) + tokens[-1]
        order = np.argsort(keys, kind="stable")
        if (np.diff(keys[order]) == 0).any():
            raise ValueError(f"{name}: a {n}-gram stands there twice")
        grams.append(Grams(keys[order], log_p[order], log_backoff[order]))
    return vocab, grams, END_OF_SENTENCE if ends else None


class _Lines:
    """The lines of ``text``: where the next one begins, and its number."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.number = text, 0, 1

    def __iter__(self) -> Iterator[tuple[int, str]]:
        while self.at < len(self.text):
            yield self._take(self.text.find("\n", self.at))

    def _take(self, end: int) -> tuple[int, str]:
        """The lines up to ``end``, -1 for all there are, and the number of the first."""
        end = len(self.text) if end < 0 else end
        number, lines = self.number, self.text[self.at : end]
        self.at, self.number = end + 1, self.number + lines.count("\n") + 1
        return number, lines

    def parts(self) -> Iterator[tuple[int, str]]:
        """The lines before the next empty one, many at a time, each time with the number of the first."""
        if self.text.startswith("\n", self.at):
            return
        end = self.text.find("\n\n", self.at)
        end = len(self.text) - self.text.endswith("\n") if end < 0 else end
        while self.at < end:
            cut = self.text.find("\n", self.at + _PART, end)
            yield self._take(end if cut < 0 else cut)


def _read_header(name: str, lines: _Lines) -> list[int]:
    sizes: list[int] = []
    begun = False
    for number, line in lines:
        line = line.strip()
        begun = begun or line == "\\data\\"
        if begun and line.startswith("ngram "):
            match = re.fullmatch(r"ngram (\d+)\s*=\s*(\d+)", line)
            if not match or int(match[1]) != len(sizes) + 1:
                raise ValueError(f"{name}, line {number}: {line!r}, expected 'ngram {len(sizes) + 1}=COUNT'")
            sizes.append(int(match[2]))
        elif sizes and not line:
            return sizes
    raise ValueError(f"{name} is no ARPA file: it has no \\data\\ section with counts")


def _read_section(name: str, lines: _Lines, n: int, size: int, ids: Mapping[bytes, int] | None) -> list[Any]:
    """log P, log of the backoff weight, and n columns of words: their ``ids``, or the words themselves for None."""
    for number, line in lines:
        if line.strip() == f"\\{n}-grams:":
            break
        if line.strip():
            raise ValueError(f"{name}, line {number}: {line!r}, expected '\\{n}-grams:'")
    kinds = [np.float64, np.float64, *[object if ids is None else np.int64] * n]
    parts: list[list[Any]] = [[np.empty(0, kind) for kind in kinds]]
    for number, part in lines.parts():
        log_p, log_backoff, words = _read_columns(name, number, part.encode(), n)
        try:
            parts.append([log_p, log_backoff, *(_as_array(column, ids) for column in words)])
        except KeyError as error:
            word = error.args[0].decode()
            raise ValueError(f"{name}: the word {word!r} of a {n}-gram is no unigram") from None
    if (count := sum(len(part[0]) for part in parts)) != size:
        raise ValueError(f"{name}: {count} {n}-grams, its header says {size}")
    log_p, log_backoff, *columns = map(np.concatenate, zip(*parts))
    return [_from_log10(log_p), _from_log10(log_backoff), *columns]


def _as_array(words: Sequence[bytes], ids: Mapping[bytes, int] | None) -> NDArray[Any]:
    if ids is None:
        return np.array(words, object)
    return np.fromiter(map(ids.__getitem__, words), np.int64, len(words))


def _read_columns(name: str, number: int, lines: bytes, n: int) -> tuple[Reals, Reals, list[list[bytes]]]:
    """log10 P, log10 of the backoff weight and the words of n-grams, the first of which is line ``number``.

    All words are split at once, since a list for each of millions of lines is what reading would spend its time on.
    """
    width = _words_in_each_line(lines)
    try:
        if ((width != n + 1) & (width != n + 2)).any():
            raise ValueError("columns")
        filled = lines
        if (width == n + 1).any():  # no weight stands for 1
            filled = b"\n".join(
                line if w == n + 2 else line + b" 0" for line, w in zip(lines.split(b"\n"), width.tolist())
            )
        flat = filled.split()
        log_p, *words, log_backoff = (flat[column :: n + 2] for column in range(n + 2))
        values = np.array([list(map(float, log_p)), list(map(float, log_backoff))])
        if not ((values[0] <= 1e-6).all() and np.isfinite(values[1]).all()):
            raise ValueError("values")
    except ValueError:
        for bad, line in enumerate(lines.split(b"\n"), number):
            _check_line(name, bad, line, n)
        raise
    return values[0], values[1], words


def _words_in_each_line(lines: bytes) -> Ints:
    """What ``len(line.split())`` is for each."""
    byte = np.frombuffer(lines, np.uint8)
    space = (byte == 32) | ((byte >= 9) & (byte <= 13))
    begin = np.flatnonzero(~space & np.append(True, space[:-1]))
    end = np.append(np.flatnonzero(byte == 10), len(byte))
    return np.diff(np.searchsorted(begin, end), prepend=0)


def _check_line(name: str, number: int, line: bytes, n: int) -> None:
    parts = line.split()
    if len(parts) not in (n + 1, n + 2):
        raise ValueError(f"{name}, line {number}: {len(parts)} columns, expected {n + 1} or {n + 2}")
    try:
        log_p, log_backoff = float(parts[0]), float(parts[n + 1]) if len(parts) == n + 2 else 0.0
    except ValueError:
        raise ValueError(f"{name}, line {number}: {line.decode()!r} has no number where one is expected") from None
    if not (log_p <= 1e-6 and abs(log_backoff) < np.inf):
        raise ValueError(f"{name}, line {number}: {line.decode()!r} is no log-probability")


def _from_log10(values: Reals) -> Reals:
    return np.where(values <= _ZERO, -np.inf, values * _LOG_10)


def _read_unigrams(
    name: str, words: list[str], log_p: Reals, log_backoff: Reals, tokenizer: str
) -> tuple[Vocab, Grams, bool]:
    """The vocabulary, ``<unk>`` first, and whether ``</s>`` is a word of it: as ``<eos>``, backing off as ``<s>``."""
    at = {word: i for i, word in enumerate(words)}
    if len(at) != len(words):
        raise ValueError(f"{name}: a word stands twice among the unigrams")
    ends = END in at and END_OF_SENTENCE not in at and log_p[at[END]] > -np.inf
    at.setdefault(UNKNOWN, -1)  # the last of the arrays below: never predicted
    tokens = [UNKNOWN, *(w for w in words if w not in (UNKNOWN, BEGIN) and (w != END or ends))]
    source = [at[token] for token in tokens]
    p, backoff = (np.append(values, last)[source] for values, last in ((log_p, -np.inf), (log_backoff, 0.0)))
    if ends:
        end = tokens.index(END)
        tokens[end] = END_OF_SENTENCE
        backoff[end] = log_backoff[at[BEGIN]] if BEGIN in at else 0.0
    return Vocab.from_list(tokens, tokenizer=tokenizer), Grams(np.arange(len(tokens)), p, backoff), ends
