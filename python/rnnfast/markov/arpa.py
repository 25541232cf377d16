"""N-gram models in the ARPA text format, which kenlm and SRILM read and write.

A line holds log10 P, the n-gram, and log10 of its backoff weight. ARPA marks both ends of a sentence, by ``<s>`` and
``</s>``; running text has one token between two sentences. So ``<eos>`` is written as ``<s>`` at the start of an n-gram and
as ``</s>`` at its end, and read back in the same way.
"""

from __future__ import annotations

import gzip
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from rnnfast._expect import brief
from rnnfast.files import PathLike, checked_path, replacing
from rnnfast.markov.grams import Grams, Ints, Reals
from rnnfast.text.tokenise import END_OF_SENTENCE, UNKNOWN, read_text
from rnnfast.text.vocab import Vocab

BEGIN, END = "<s>", "</s>"
HIGHEST_ORDER = 16
_UNKNOWN_IN_CAPITALS = "<UNK>"  # SRILM's spelling
_ZERO = -99.0  # stands for log10 0
_LOG_10 = np.log(10.0)
_PART = 1 << 17  # characters of a chunk, whose words fit in L2


def write(path: PathLike, vocab: Vocab, end: int, grams: Sequence[Grams], tokens: Sequence[Ints]) -> None:
    """Writes n-grams and their ``tokens``, (count, n) per order, to ``path``, whose old file stays until the new one is complete.

    ``end`` is the id of ``<eos>`` if contexts end at it, else -1: then it is written as an ordinary word.
    """
    for token in vocab.idx_to_token:
        if not token or re.search(r"[\t-\r ]", token) or token in (BEGIN, END):
            raise ValueError(
                f"the token {brief(token)} cannot be written to an ARPA file, which separates words by white space"
            )
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
    """Vocabulary, n-grams, and ``<eos>`` if it ends sentences. ``ValueError`` names the error and its line.

    Blank lines are optional and may be anywhere except among the counts. ``<UNK>`` is read as ``<unk>`` if that is absent. Where ``</s>``
    is predicted and ``<eos>`` is a word too, the word is renamed ``<<eos>>``. N-grams that no text can contain are left out: those with
    ``<s>`` except at the start, and those with ``</s>`` except at the end.
    """
    name = checked_path(path)
    lines = _Lines(read_text(path))  # UTF-8, or refused
    sizes = _read_header(name, lines)
    unigrams = _read_section(name, lines, 1, sizes[0], None)
    vocab, ids, level, ends = _read_unigrams(name, unigrams, tokenizer)
    grams = [level]
    for n, size in enumerate(sizes[1:], 2):
        grams.append(_next_level(name, vocab, ends, _read_section(name, lines, n, size, ids), grams))
    if (line := next((line for _, line in lines if line.strip()), "the end of the file")).strip() != "\\end\\":
        raise ValueError(
            f"{name}, line {lines.number - 1}: {brief(line)}, expected '\\end\\'; the file may have been cut"
        )
    return vocab, grams, END_OF_SENTENCE if ends else None


def _next_level(name: str, vocab: Vocab, ends: bool, read: _Section, grams: Sequence[Grams]) -> Grams:
    """The n-grams of one order, sorted, after those of all lower orders."""
    n, begin, end = len(grams) + 1, len(vocab), len(vocab) + 1  # the ids of <s> and </s> in the section
    reached = np.ones(len(read.log_p), bool)
    for position, column in enumerate(read.words):
        reached &= (column != begin) | (ends and position == 0)
        reached &= (column != end) | (ends and position == n - 1)
    log_p, log_backoff, numbers, *tokens = (
        column[reached] for column in (read.log_p, read.log_backoff, read.numbers, *read.words)
    )
    if ends:
        tokens = [np.where(column >= begin, vocab[END_OF_SENTENCE], column) for column in tokens]
    place = tokens[0]
    for level, column in zip(grams[1:], tokens[1:-1]):
        place = level.find(place, column, len(vocab))
    if len(place) and place.min() < 0:
        bad = place.argmin()
        gram = " ".join(vocab.idx_to_token[column[bad]] for column in tokens)
        raise ValueError(
            f"{name}, line {numbers[bad]}: the {n}-gram {brief(gram)} is there, but not its first {n - 1} words as an n-gram"
        )
    keys = place * len(vocab) + tokens[-1]
    order = np.argsort(keys, kind="stable")
    if (twice := np.flatnonzero(np.diff(keys[order]) == 0)).size:
        raise ValueError(f"{name}, line {numbers[order[twice[0] + 1]]}: this {n}-gram occurs twice")
    return Grams(keys[order], log_p[order], log_backoff[order])


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
        """The lines before the next one that begins with a backslash, in chunks, each with the number of its first line."""
        if self.text.startswith("\\", self.at):
            return
        end = self.text.find("\n\\", self.at)
        end = len(self.text) - self.text.endswith("\n") if end < 0 else end
        while self.at < end:
            cut = self.text.find("\n", self.at + _PART, end)
            yield self._take(end if cut < 0 else cut)


def _read_header(name: str, lines: _Lines) -> list[int]:
    sizes: list[int] = []
    begun = False
    at, number = lines.at, lines.number
    for number, line in lines:
        line = line.strip()
        begun = begun or line == "\\data\\"
        if begun and re.match(r"ngram\s", line):
            match = re.fullmatch(r"ngram\s+(\d{1,18})\s*=\s*(\d{1,18})", line)
            if not match or int(match[1]) != len(sizes) + 1:
                raise ValueError(f"{name}, line {number}: {brief(line)}, expected 'ngram {len(sizes) + 1}=COUNT'")
            sizes.append(int(match[2]))
            if len(sizes) > HIGHEST_ORDER:
                raise ValueError(f"{name}, line {number}: {brief(line)}, expected orders up to {HIGHEST_ORDER}")
        elif sizes and line.startswith("\\"):
            lines.at, lines.number = at, number  # the line is read again by the next section
            return sizes
        elif sizes and line:
            raise ValueError(f"{name}, line {number}: {brief(line)}, expected '\\1-grams:'")
        at = lines.at
    if sizes:
        raise ValueError(f"{name}, line {number}: the file ends before '\\1-grams:'; it may have been cut")
    raise ValueError(f"{name} is not an ARPA file: it has no \\data\\ section with counts")


@dataclass
class _Section:
    """The n-grams of one order in the order of the file, and the line number of each."""

    log_p: Reals
    log_backoff: Reals
    numbers: Ints
    words: list[NDArray[Any]]  # a column for each place in the n-gram: ids, or the words themselves


def _read_section(name: str, lines: _Lines, n: int, size: int, ids: Mapping[bytes, int] | None) -> _Section:
    """``ids`` are those of the words; None: the words themselves are wanted."""
    at, header = lines.at, lines.number
    for header, line in lines:
        if line.strip() == f"\\{n}-grams:":
            break
        if line.strip():
            if size:
                raise ValueError(f"{name}, line {header}: {brief(line)}, expected '\\{n}-grams:'")
            lines.at, lines.number = at, header  # an order without n-grams may lack its section
            break
        at = lines.at
    else:
        raise ValueError(f"{name}, line {header}: the file ends before '\\{n}-grams:'; it may have been cut")
    kinds = [np.float64, np.float64, np.int64, *[object if ids is None else np.int64] * n]
    parts: list[list[Any]] = [[np.empty(0, kind) for kind in kinds]]
    for number, part in lines.parts():
        log_p, log_backoff, numbers, words = _read_columns(name, number, part.encode(), n)
        parts.append([log_p, log_backoff, numbers, *(_as_array(name, n, column, numbers, ids) for column in words)])
    if (count := sum(len(part[0]) for part in parts)) != size:
        raise ValueError(f"{name}, line {header}: {count} {n}-grams follow, its header says {size}")
    log_p, log_backoff, numbers, *columns = map(np.concatenate, zip(*parts))
    return _Section(_from_log10(log_p), _from_log10(log_backoff), numbers, columns)


def _as_array(
    name: str, n: int, words: Sequence[bytes], numbers: Ints, ids: Mapping[bytes, int] | None
) -> NDArray[Any]:
    if ids is None:
        return np.array(words, object)
    try:
        return np.fromiter(map(ids.__getitem__, words), np.int64, len(words))
    except KeyError:
        bad = next(i for i, word in enumerate(words) if word not in ids)
        raise ValueError(
            f"{name}, line {numbers[bad]}: the word {words[bad].decode()!r} of a {n}-gram is not a unigram"
        ) from None


def _read_columns(name: str, number: int, lines: bytes, n: int) -> tuple[Reals, Reals, Ints, list[list[bytes]]]:
    """log10 P, log10 of the backoff weight, line number and the words of n-grams; the first line is line ``number``.

    All words are split together: a list for each of millions of lines would take most of the time.
    """
    width = _words_in_each_line(lines)
    numbers = number + np.flatnonzero(width)
    filled, full = lines, width[width > 0]
    try:
        if ((full != n + 1) & (full != n + 2)).any():
            raise ValueError("columns")
        if (full == n + 1).any():  # no weight stands for 1
            filled = b"\n".join(
                line + b" 0" if w == n + 1 else line for line, w in zip(lines.split(b"\n"), width.tolist())
            )
        flat = filled.split()
        log_p, *words, log_backoff = (flat[column :: n + 2] for column in range(n + 2))
        values = np.array([list(map(float, log_p)), list(map(float, log_backoff))]).reshape(2, -1)
        if not ((values[0] <= 1e-6).all() and np.isfinite(values[1]).all()):
            raise ValueError("values")
    except ValueError:
        for bad, line in enumerate(lines.split(b"\n"), number):
            _check_line(name, bad, line, n)
        raise
    return values[0], values[1], numbers, words


def _words_in_each_line(lines: bytes) -> Ints:
    """``len(line.split())`` of each line."""
    byte = np.frombuffer(lines, np.uint8)
    space = (byte == 32) | ((byte >= 9) & (byte <= 13))
    begin = np.flatnonzero(~space & np.append(True, space[:-1]))
    end = np.append(np.flatnonzero(byte == 10), len(byte))
    return np.diff(np.searchsorted(begin, end), prepend=0)


def _check_line(name: str, number: int, line: bytes, n: int) -> None:
    parts = line.split()
    if not parts:
        return
    if len(parts) not in (n + 1, n + 2):
        raise ValueError(f"{name}, line {number}: {len(parts)} columns, expected {n + 1} or {n + 2}")
    try:
        log_p, log_backoff = float(parts[0]), float(parts[n + 1]) if len(parts) == n + 2 else 0.0
    except ValueError:
        raise ValueError(f"{name}, line {number}: {line.decode()!r} has a word where a number is expected") from None
    if not (log_p <= 1e-6 and abs(log_backoff) < np.inf):
        raise ValueError(f"{name}, line {number}: {line.decode()!r} is not a log-probability")


def _from_log10(values: Reals) -> Reals:
    return np.where(values <= _ZERO, -np.inf, values * _LOG_10)


def _read_unigrams(name: str, read: _Section, tokenizer: str) -> tuple[Vocab, dict[bytes, int], Grams, bool]:
    """The vocabulary, ``<unk>`` first; the id of each word of the file; the unigrams; and whether ``</s>`` is a token, which
    then is ``<eos>`` and backs off as ``<s>``."""
    words = [word.decode() for word in read.words[0]]
    at: dict[str, int] = {}
    for i, word in enumerate(words):
        if at.setdefault(word, i) != i:
            raise ValueError(f"{name}, line {read.numbers[i]}: the word {brief(word)} occurs twice among the unigrams")
    ends = END in at and read.log_p[at[END]] > -np.inf
    unknown = UNKNOWN if UNKNOWN in at or _UNKNOWN_IN_CAPITALS not in at else _UNKNOWN_IN_CAPITALS
    kept = [unknown, *(w for w in words if w not in (unknown, BEGIN) and (w != END or ends))]
    at.setdefault(unknown, -1)  # the last of the arrays below: never predicted
    source = [at[word] for word in kept]
    p, backoff = (np.append(v, last)[source] for v, last in ((read.log_p, -np.inf), (read.log_backoff, 0.0)))
    tokens = [UNKNOWN, *kept[1:]]
    if ends:
        end = kept.index(END)
        backoff[end] = read.log_backoff[at[BEGIN]] if BEGIN in at else 0.0
        tokens[end] = END_OF_SENTENCE
        for i, word in enumerate(kept):  # a line's end is <eos>, so a word cannot be
            if word == END_OF_SENTENCE:
                tokens[i] = f"<{END_OF_SENTENCE}>"
    try:
        vocab = Vocab.from_list(tokens, tokenizer=tokenizer)
    except ValueError as error:
        raise ValueError(f"{name}: its words cannot form a vocabulary: {error}") from None
    ids = {word.encode(): i for i, word in enumerate(kept)}
    # In n-grams the two keep their own ids until their positions are checked.
    ids.update({BEGIN.encode(): len(tokens), END.encode(): len(tokens) + 1})
    return vocab, ids, Grams(np.arange(len(tokens)), p, backoff), ends
