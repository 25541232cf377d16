"""Coverage-guided fuzzing of the ARPA reader, by PyPI's atheris: a file is read, written and read again, or refused in one sentence.

    python tests/fuzz/python_arpa.py -atheris_runs=10000000 corpus

The options are libFuzzer's; ``nox -s fuzz -- arpa`` runs it. An input is put behind the beginning of a good file half of the time, so
that sections are reached as often as the header. Files stay in memory: 15,000 small inputs a second, on a disk 200.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import atheris

with atheris.instrument_imports(include=["rnnfast.markov.arpa"]):
    import rnnfast as rf
    from rnnfast.markov import arpa
from rnnfast.text.tokenise import decode_bytes

GOOD = (
    b"\\data\\\nngram 1=3\nngram 2=1\n\n\\1-grams:\n-1\t<unk>\t0\n-0.5\ta\t-0.25\n-0.5\tb\n\n"
    b"\\2-grams:\n-0.25\ta b\n\n\\end\\\n"
)
FILES: dict[str, bytes] = {}


def read_text(path: str) -> str:
    return decode_bytes(FILES[path], path)


@contextmanager
def lines_to(path: str) -> Iterator[IO[str]]:
    lines = io.StringIO()
    yield lines
    FILES[path] = lines.getvalue().encode()


arpa.read_text, arpa._lines_to = read_text, lines_to


def written(model: rf.NGram) -> bytes:
    model.save_arpa("out.arpa")
    return FILES["out.arpa"]


def one_input(data: bytes) -> None:
    if data[:1] and data[0] & 1:
        data = GOOD[: data[0] % len(GOOD)] + data[1:]
    FILES["in.arpa"] = data
    try:
        model = rf.NGram.from_arpa("in.arpa")
    except ValueError as error:
        message = str(error)
        if len(message) < 8 or "\n" in message:
            raise AssertionError(message) from error
        return
    once = written(model)
    assert written(rf.NGram.from_arpa("out.arpa")) == once
    assert model.log_prob(model.vocab.idx_to_token[:3]) == model.log_prob([0, 1, 2][: len(model.vocab)])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
