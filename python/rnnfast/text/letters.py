"""Which letters of a text the tokenizers of Dive into Deep Learning keep."""

from __future__ import annotations

import re
import warnings

KEEP_A_TO_Z = ("d2l-char", "d2l-word")  # tokenizers that drop everything but these letters

_LATIN, _OTHER = re.compile("[A-Za-z]"), re.compile(r"[^\W\d_a-zA-Z]")
_CHINESE, _KANA = re.compile("[\u4e00-\u9fff]"), re.compile("[\u3040-\u30ff]")


class Letters:
    """Counts the letters that ``tokenizer`` keeps and drops, of a text that may come in pieces.

    >>> letters = Letters("d2l-word")
    >>> letters.read("Über 9"), letters.kept, letters.dropped
    ('Über 9', 3, 1)
    """

    def __init__(self, tokenizer: str) -> None:
        self.tokenizer, self.kept, self.dropped, self._instead = tokenizer, 0, 0, ""

    def read(self, text: str) -> str:
        """Counts the letters of ``text`` and returns it."""
        if self.tokenizer in KEEP_A_TO_Z:
            self.kept += len(_LATIN.findall(text))
            if not text.isascii() and (dropped := len(_OTHER.findall(text))):
                self.dropped += dropped
                self._instead = self._instead or _instead(text)
        return text

    def check(self, name: str) -> None:
        """``ValueError`` if the tokenizer drops every letter of the text ``name``; a warning if it drops more than half of them."""
        self.refuse_none(name)
        if self.dropped > self.kept:
            warnings.warn(
                f"the tokenizer {self.tokenizer!r} keeps only the letters a to z: it drops {self.dropped:,} of the "
                f"{self.kept + self.dropped:,} letters of {name}; use {self._instead}",
                stacklevel=4,
            )

    def refuse_none(self, name: str) -> None:
        """``ValueError`` if the text has letters and the tokenizer drops them all."""
        if self.dropped and not self.kept:
            raise ValueError(
                f"{name} has none of the letters a to z, and the tokenizer {self.tokenizer!r} drops all others; use {self._instead}"
            )


def check_letters(text: str, tokenizer: str, name: str = "the text") -> None:
    """``ValueError`` if ``text`` has letters and ``tokenizer`` drops them all."""
    letters = Letters(tokenizer)
    letters.read(text)
    letters.refuse_none(name)


def _instead(text: str) -> str:
    chinese = _CHINESE.search(text) and not _KANA.search(text)
    return "'char', or 'jieba' for Chinese words" if chinese else "'char' or 'word'"
