"""Token ids in a file that is mapped into memory, so that a text may be larger than memory.

The file is a safetensors file: a header with the vocabulary, then the ids, two bytes each if the vocabulary allows (docs/model-file.md).
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
_MOST = 10**15  # ids of a file
_LONGEST_HEADER = 1 << 30
_PIECE = 1 << 22  # ids that are checked at a time


def write_ids(path: PathLike, vocab: Vocab, pieces: Iterable[NDArray[Any]], *, expected: int | None = None) -> None:
    """Writes the ids of ``pieces`` one after another, ``expected`` in all. The old file stays until the new one is whole.

    Replaces only a file that this function wrote: a text, given by mistake, stays.
    """
    if os.path.exists(path):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(
                f"{os.fspath(path)} is not a regular file, and ids are mapped from one; give another memory_map"
            )
        try:
            _read_header(path)
        except ValueError:
            raise ValueError(
                f"{os.fspath(path)} exists and holds no ids of a corpus; remove it, or give another memory_map"
            ) from None
    kind = "U16" if len(vocab) <= 1 << 16 else "I32"
    size = -(-len(_header(vocab, kind, _MOST)) // 8) * 8  # of the longest, so that the others fit too
    count = 0
    with replacing(path) as file:
        file.write(bytes(8 + size))
        for ids in pieces:
            file.write(ids.astype(_TYPES[kind]).tobytes())
            count += len(ids)
        if count < 2:
            raise ValueError(f"the text has {count} tokens, expected at least 2: one to read and one to predict")
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

    ``check`` reads all of them once: each must be one of the vocabulary. Raises ``ValueError`` for another file.
    """
    vocab, kind, begin, count = _read_header(path)
    if check:
        with open(path, "rb") as file:  # not through the mapping, which would keep what it read in memory
            file.seek(begin)
            for at in range(0, count, _PIECE):
                ids = np.fromfile(file, kind, min(_PIECE, count - at))
                if ids.min() < 0 or ids.max() >= len(vocab):
                    raise ValueError(f"{os.fspath(path)}: an id is outside its vocabulary of {len(vocab)} tokens")
    return np.memmap(path, kind, "r", offset=begin, shape=(count,)).view(np.ndarray), vocab


def _read_header(path: PathLike) -> tuple[Vocab, np.dtype[Any], int, int]:
    """Vocabulary, type, place of the first id in the file, and count."""
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
            raise ValueError("it was cut, or its header disagrees with its size")
        return Vocab.from_description(json.loads(own["vocabulary"])), kind, 8 + length, count
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{shown(file)} holds no ids of a corpus: {error}") from None
