"""Token ids in a memory-mapped file, so that a text may be larger than memory.

It is a safetensors file: a header with the vocabulary, then the ids, two bytes each if the vocabulary is small enough (docs/model-file.md).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast._expect import shown
from rnnfast.files import PathLike, replacing
from rnnfast.text.vocab import Vocab

KIND, FORMAT, FORMAT_VERSION = "corpus", "rnnfast", "1"
_TYPES: dict[str, Any] = {"U16": np.dtype("<u2"), "I32": np.dtype("<i4")}
_MOST = 10**15  # ids in a file
_LONGEST_HEADER = 1 << 30
_PIECE = 1 << 22  # ids that are checked at a time


def write_ids(path: PathLike, vocab: Vocab, pieces: Iterable[NDArray[Any]], *, expected: int | None = None) -> None:
    """Writes the ids of all ``pieces``, ``expected`` in total. The old file stays until the new one is complete.

    Replaces only files that this function wrote, not, for example, a text given by mistake.
    """
    if os.path.exists(path):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(
                f"{os.fspath(path)} is not a regular file, so it cannot be mapped; give another memory_map"
            )
        try:
            _read_header(path)
        except ValueError:
            raise ValueError(
                f"{os.fspath(path)} exists and is not a file of a corpus's ids; remove it, or give another memory_map"
            ) from None
    kind = "U16" if len(vocab) <= 1 << 16 else "I32"
    size = -(-len(_header(vocab, kind, _MOST)) // 8) * 8  # of the longest possible header
    count = 0
    with replacing(path) as file:
        file.write(bytes(8 + size))
        for ids in pieces:
            file.write(ids.astype(_TYPES[kind]).tobytes())
            count += len(ids)
        if count < 2:
            raise ValueError(
                f"the text has {count} token{'s' * (count != 1)}, expected at least 2: one to read and one to predict"
            )
        if count != (count if expected is None else expected):
            raise ValueError(
                f"the text had {expected} tokens and then {count}: it changed while it was read; read it again"
            )
        file.seek(0)
        file.write(size.to_bytes(8, "little") + _header(vocab, kind, count).ljust(size))


def _header(vocab: Vocab, kind: str, count: int) -> bytes:
    own = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "vocabulary": json.dumps(vocab.description(), ensure_ascii=False),
    }
    ids = {"dtype": kind, "shape": [count], "data_offsets": [0, count * _TYPES[kind].itemsize]}
    return json.dumps({"__metadata__": own, "ids": ids}, ensure_ascii=False).encode()


def read_ids(path: PathLike, *, check: bool = True) -> tuple[NDArray[Any], Vocab]:
    """The ids of a file that :func:`write_ids` wrote, mapped and read-only, and their vocabulary.

    ``check`` reads all of them once to check that they are in the vocabulary. Raises ``ValueError`` for any other file.
    """
    vocab, kind, begin, count = _read_header(path)
    if check:
        with open(path, "rb") as file:  # not through the mapping, which would keep the pages in memory
            file.seek(begin)
            for at in range(0, count, _PIECE):
                ids = np.fromfile(file, kind, min(_PIECE, count - at))
                if ids.min() < 0 or ids.max() >= len(vocab):
                    raise ValueError(f"{os.fspath(path)}: an id is outside its vocabulary of {len(vocab)} tokens")
    return np.memmap(path, kind, "r", offset=begin, shape=(count,)).view(np.ndarray), vocab


def _read_header(path: PathLike) -> tuple[Vocab, np.dtype[Any], int, int]:
    """Vocabulary, type, offset of the first id in the file, and count."""
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(
            f"{shown(file)} does not exist; Corpus.from_file(..., memory_map={str(file)!r}) writes it"
        )
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
                raise ValueError("it has no header")
            header = json.loads(opened.read(length))
        own, ids = header["__metadata__"], header["ids"]
        if own["format"] != FORMAT or own["kind"] != KIND or own["format_version"] != FORMAT_VERSION:
            raise ValueError("it is of another kind or version")
        kind, (count,), (begin, end) = _TYPES[ids["dtype"]], ids["shape"], ids["data_offsets"]
        if begin != 0 or count < 2 or end != count * kind.itemsize or 8 + length + end != size:
            raise ValueError("it is truncated, or its header does not match its size")
        return Vocab.from_description(json.loads(own["vocabulary"])), kind, 8 + length, count
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{shown(file)} is not a file of a corpus's ids: {error}") from None
