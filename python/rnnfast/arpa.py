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
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from rnnfast.grams import Grams, Ints, Reals
from rnnfast.text import END_OF_SENTENCE, UNKNOWN, PathLike, read_text
from rnnfast.vocab import Vocab

BEGIN, END = "<s>", "</s>"
_ZERO = -99.0  # stands for log10 0
_LOG_10 = np.log(10.0)


def write(path: PathLike, vocab: Vocab, end: int, grams: Sequence[Grams], tokens: Sequence[Ints]) -> None:
    """Writes n-grams and their ``tokens``, (count, n) an order, to ``path``: beside it first, renamed when whole.

    ``end`` is the id of ``<eos>`` if contexts do not reach back over it, else -1: then it is a word like others.
    """
    for token in vocab.idx_to_token:
        if not token or re.search(r"\s", token) or token in (BEGIN, END):
            raise ValueError(f"the token {token!r} cannot stand in an ARPA file, which separates words by white space")
    file = Path(path)
    beside = file.with_name(f"{file.name}.tmp-{os.getpid()}")
    try:
        with _open_to_write(beside, packed=file.suffix == ".gz") as lines:
            _write_header(lines, [len(g.keys) for g in grams], 1 if end >= 0 else 2)
            for n, (level, ids) in enumerate(zip(grams, tokens), 1):
                lines.write(f"\n\\{n}-grams:\n")
                _write_section(lines, vocab, end, level, ids, highest=n == len(grams))
            lines.write("\n\\end\\\n")
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def _open_to_write(file: Path, *, packed: bool) -> IO[str]:
    if packed:
        return io.TextIOWrapper(gzip.open(file, "wb", compresslevel=4), encoding="utf-8", newline="\n")
    return file.open("w", encoding="utf-8", newline="\n")


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
    lines = enumerate(read_text(path).split("\n"), 1)
    sizes = _read_header(name, lines)
    words, log_p, log_backoff = _read_section(name, lines, 1, sizes[0])
    vocab, unigrams, ends = _read_unigrams(name, [word[0] for word in words], log_p, log_backoff, tokenizer)
    grams = [unigrams]
    ids = dict(vocab.token_to_idx)
    if ends:
        ids[BEGIN] = ids[END] = ids[END_OF_SENTENCE]
    for n, size in enumerate(sizes[1:], 2):
        words, log_p, log_backoff = _read_section(name, lines, n, size)
        try:
            tokens = np.fromiter(map(ids.__getitem__, chain.from_iterable(words)), np.int64).reshape(-1, n)
        except KeyError as error:
            raise ValueError(f"{name}: the word {error} of a {n}-gram is no unigram") from None
        place = tokens[:, 0]
        for level, column in zip(grams[1:], tokens[:, 1:-1].T):
            place = level.find(place, column, len(vocab))
        if len(place) and place.min() < 0:
            gram = " ".join(words[int(place.argmin())])
            raise ValueError(f"{name}: the {n}-gram {gram!r} stands without its first {n - 1} words as an n-gram")
        keys = place * len(vocab) + tokens[:, -1]
        order = np.argsort(keys, kind="stable")
        if (np.diff(keys[order]) == 0).any():
            raise ValueError(f"{name}: a {n}-gram stands there twice")
        grams.append(Grams(keys[order], log_p[order], log_backoff[order]))
    return vocab, grams, END_OF_SENTENCE if ends else None


def _read_header(name: str, lines: Iterator[tuple[int, str]]) -> list[int]:
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


def _read_section(
    name: str, lines: Iterator[tuple[int, str]], n: int, size: int
) -> tuple[list[list[str]], Reals, Reals]:
    for number, line in lines:
        if line.strip() == f"\\{n}-grams:":
            break
        if line.strip():
            raise ValueError(f"{name}, line {number}: {line!r}, expected '\\{n}-grams:'")
    words, log_p, log_backoff = [], [], []
    for number, line in lines:
        parts = line.split()
        if not parts:
            break
        if len(parts) not in (n + 1, n + 2):
            raise ValueError(f"{name}, line {number}: {len(parts)} columns, expected {n + 1} or {n + 2}")
        try:
            log_p.append(float(parts[0]))
            log_backoff.append(float(parts[n + 1]) if len(parts) == n + 2 else 0.0)
        except ValueError:
            raise ValueError(f"{name}, line {number}: {line!r} has no number where one is expected") from None
        if not (log_p[-1] <= 1e-6 and abs(log_backoff[-1]) < np.inf):
            raise ValueError(f"{name}, line {number}: {line!r} is no log-probability")
        words.append(parts[1 : n + 1])
    if len(words) != size:
        raise ValueError(f"{name}: {len(words)} {n}-grams, its header says {size}")
    return words, _from_log10(log_p), _from_log10(log_backoff)


def _from_log10(values: list[float]) -> Reals:
    array = np.array(values, np.float64)
    return np.where(array <= _ZERO, -np.inf, array * _LOG_10)


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
