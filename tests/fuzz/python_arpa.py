"""Coverage-guided fuzzing of the ARPA reader, by PyPI's atheris: a file is read, written and read again, or refused in one sentence.

    python tests/fuzz/python_arpa.py -atheris_runs=10000000 corpus

The options are libFuzzer's; ``nox -s fuzz -- arpa`` runs it. An input is put behind the beginning of a good file half of the time, so
that sections are reached as often as the header.
"""

from __future__ import annotations

import os
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["rnnfast.markov.arpa"]):
    import rnnfast as rf

GOOD = (
    b"\\data\\\nngram 1=3\nngram 2=1\n\n\\1-grams:\n-1\t<unk>\t0\n-0.5\ta\t-0.25\n-0.5\tb\n\n"
    b"\\2-grams:\n-0.25\ta b\n\n\\end\\\n"
)
FOLDER = tempfile.mkdtemp(prefix="arpa-")


def path(name: str) -> str:
    return os.path.join(FOLDER, name)


def written(model: rf.NGram) -> bytes:
    model.save_arpa(path("out.arpa"))
    with open(path("out.arpa"), "rb") as file:
        return file.read()


def one_input(data: bytes) -> None:
    if data[:1] and data[0] & 1:
        data = GOOD[: data[0] % len(GOOD)] + data[1:]
    with open(path("in.arpa"), "wb") as file:
        file.write(data)
    try:
        model = rf.NGram.from_arpa(path("in.arpa"))
    except ValueError as error:
        message = str(error)
        if len(message) < 8 or "\n" in message:
            raise AssertionError(message) from error
        return
    once = written(model)
    assert written(rf.NGram.from_arpa(path("out.arpa"))) == once
    assert model.log_prob(model.vocab.idx_to_token[:3]) == model.log_prob([0, 1, 2][: len(model.vocab)])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
