"""Tokens and their ids."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from rnnfast._arrays import as_ids, positive
from rnnfast._expect import brief, kind_of, shown
from rnnfast.files import PathLike, checked_path, write_text
from rnnfast.text.letters import check_letters
from rnnfast.text.tokenise import (
    BPE,
    UNKNOWN,
    BytePairDecoder,
    bpe_detokenize,
    bpe_tokenize,
    check_text,
    check_tokenizer,
    detokenize,
    is_byte_level,
    name_in_file,
    read_text,
    tokenizer_in_file,
    tokens_of,
    train_bpe,
)

_LONG = 10_000  # characters


class Decoder:
    """The text of ids as they arrive, in pieces that add up to :meth:`Vocab.decode`: one piece per id, possibly empty, and the rest.

    A piece includes the space before a word, if there is one, and contains only complete characters.
    """

    def __init__(self, vocab: Vocab, before: int | None = None) -> None:
        """``before`` is the last id of the preceding text."""
        self._vocab, self._last = vocab, before
        self._bytes = BytePairDecoder() if vocab.rules is not None and is_byte_level(vocab.rules) else None

    def text(self, token: int) -> str:
        """The next piece of the text."""
        last, self._last = self._last, token
        if self._bytes is not None:
            return self._bytes.text(self._vocab.to_tokens(token))
        if last is None:
            return self._vocab.decode([token])
        # As a pair, since it depends on both whether there is a space between them.
        return self._vocab.decode([last, token])[len(self._vocab.decode([last])) :]

    def rest(self) -> str:
        """The replacement for an incomplete character at the end."""
        return "" if self._bytes is None else self._bytes.rest()


class Vocab:
    """Tokens sorted by decreasing frequency, ties by the token itself, so that the same text gives the same ids.

    Id 0 is ``<unk>``, followed by the ``reserved`` tokens and then all others.

    Parameters
    ----------
    tokens : the tokens of a text, in any order
    min_freq : rarer tokens are read as ``<unk>``
    max_size : keep only this many of the most frequent tokens, not counting ``<unk>`` and ``reserved``; None: all
    reserved : tokens that get an id whether or not they occur
    tokenizer : the name that :meth:`encode_text` and :meth:`decode` use
    lower : :meth:`encode_text` converts the text to lower case first; ``tokens`` are not changed

    >>> vocab = Vocab("a b a c b a".split())
    >>> vocab.idx_to_token
    ['<unk>', 'a', 'b', 'c']
    >>> vocab["b"], vocab[["a", "z"]]
    (2, [1, 0])
    """

    unk = 0

    def __init__(
        self,
        tokens: Iterable[str] = (),
        *,
        min_freq: int = 1,
        max_size: int | None = None,
        reserved: Sequence[str] = (),
        tokenizer: str = "char",
        lower: bool = False,
    ) -> None:
        if not isinstance(tokens, Iterable):
            raise TypeError(f"tokens is {kind_of(tokens)}, expected a list of str")
        self._count(Counter(tokens), min_freq, max_size, reserved, tokenizer, lower)

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[str, int],
        *,
        min_freq: int = 1,
        max_size: int | None = None,
        reserved: Sequence[str] = (),
        tokenizer: str = "char",
        lower: bool = False,
    ) -> Vocab:
        """The vocabulary of tokens that occur ``counts[token]`` times; the options are the constructor's.

        >>> Vocab.from_counts({"b": 2, "a": 5, "c": 1}, max_size=2).idx_to_token
        ['<unk>', 'a', 'b']
        """
        if not isinstance(counts, Mapping):
            raise TypeError(f"counts is {kind_of(counts)}, expected a mapping from tokens to their counts")
        vocab = cls()
        vocab._count(counts, min_freq, max_size, reserved, tokenizer, lower)
        return vocab

    def _count(
        self,
        counts: Mapping[str, int],
        min_freq: int,
        max_size: int | None,
        reserved: Sequence[str],
        tokenizer: str,
        lower: bool,
    ) -> None:
        positive(min_freq, "min_freq")
        if isinstance(reserved, str):
            raise TypeError(f"reserved is {brief(reserved)}, expected a list of tokens")
        first = [UNKNOWN, *reserved]
        if len(set(first)) != len(first):
            raise ValueError(f"reserved tokens {list(reserved)} repeat one another or {UNKNOWN}")
        for token in (*first, *counts):
            check_text(token, f"the token {token!r}")
        self.token_freqs = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [t for t, n in self.token_freqs if n >= min_freq and t not in set(first)]
        most = len(kept) if max_size is None else positive(max_size, "max_size")
        self._fill(first + kept[:most], tokenizer, lower=lower)

    @classmethod
    def bpe(cls, text: str, size: int, *, reserved: Sequence[str] = (), lower: bool = False) -> Vocab:
        """Subwords learned from ``text``: a byte-pair encoding of ``size`` tokens (extra: ``hf``).

        ``Corpus.from_text(text, vocab=Vocab.bpe(text, 8000))`` uses it; models store it in their file.
        """
        check_text(text)
        rules, tokens = train_bpe(text.lower() if lower else text, size, reserved)
        vocab = cls.from_list(tokens, tokenizer=BPE, rules=rules, lower=lower)
        counts = Counter(vocab.tokenize(text))
        vocab.token_freqs = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return vocab

    @classmethod
    def from_list(
        cls, tokens: Sequence[str], *, tokenizer: str = "char", rules: str | None = None, lower: bool = False
    ) -> Vocab:
        """The vocabulary whose ids are the positions in ``tokens``; the first must be ``<unk>``."""
        if isinstance(tokens, str) or not isinstance(tokens, Sequence):
            raise TypeError(f"tokens is {kind_of(tokens)}, expected a list of str")
        for token in tokens:
            check_text(token, f"the token {token!r}")
        if not tokens or tokens[0] != UNKNOWN or len(set(tokens)) != len(tokens):
            raise ValueError(f"tokens must start with {UNKNOWN} and be different from one another")
        vocab = cls()
        vocab._fill(list(tokens), tokenizer, rules, lower)
        return vocab

    def save(self, path: PathLike) -> None:
        """Writes tokens, their frequencies and the name of the tokenizer as JSON."""
        held = {**self.description(), "frequencies": self.token_freqs}
        write_text(path, json.dumps(held, ensure_ascii=False))

    def description(self) -> dict[str, Any]:
        """What a file stores; :meth:`from_description` is the inverse."""
        described = {"tokenizer": name_in_file(self.tokenizer), "tokens": self.idx_to_token}
        if self.rules is not None:
            described["rules"] = self.rules
        return {**described, "lower": True} if self.lower else described

    @classmethod
    def from_description(cls, held: Mapping[str, Any]) -> Vocab:
        """The vocabulary that :meth:`description` describes; ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        if not isinstance(held, Mapping):
            raise TypeError(f"the description of the vocabulary is {kind_of(held)}, expected a mapping")
        tokens, lower = held["tokens"], held.get("lower", False)
        if not isinstance(tokens, list):
            raise ValueError(f"the tokens of the vocabulary are {kind_of(tokens)}, expected a list")
        if not isinstance(lower, bool):
            raise ValueError(f"lower of the vocabulary is {brief(lower)}, expected true or false")
        return cls.from_list(
            tokens, tokenizer=tokenizer_in_file(held["tokenizer"]), rules=held.get("rules"), lower=lower
        )

    @classmethod
    def load(cls, path: PathLike) -> Vocab:
        """The vocabulary that :meth:`save` wrote."""
        checked_path(path)
        try:
            held = json.loads(read_text(path))
            vocab = cls.from_description(held)
            vocab.token_freqs = [(str(token), int(count)) for token, count in held["frequencies"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{shown(path)} is not a vocabulary that Vocab.save wrote: {error}") from None
        return vocab

    def _fill(self, tokens: list[str], tokenizer: str, rules: str | None = None, lower: bool = False) -> None:
        check_tokenizer(tokenizer, rules)  # an error now rather than at the first prompt
        self.tokenizer, self.rules, self.lower = tokenizer, rules, bool(lower)
        self.idx_to_token = tokens
        self.token_to_idx = {token: i for i, token in enumerate(tokens)}

    def __len__(self) -> int:
        return len(self.idx_to_token)

    def __contains__(self, token: object) -> bool:
        return token in self.token_to_idx

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocab) and self.description() == other.description()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Vocab({len(self)} {self.tokenizer} tokens)"

    @overload
    def __getitem__(self, token: str) -> int: ...
    @overload
    def __getitem__(self, token: list[str] | tuple[str, ...]) -> list[int]: ...
    def __getitem__(self, token: str | list[str] | tuple[str, ...]) -> int | list[int]:
        if isinstance(token, str):
            return self.token_to_idx.get(token, self.unk)
        if not isinstance(token, (list, tuple)):
            raise TypeError(f"{brief(token)} is {kind_of(token)}, expected a token or a list of tokens")
        return [int(i) for i in self.encode(token)]

    @overload
    def to_tokens(self, ids: int) -> str: ...
    @overload
    def to_tokens(self, ids: Iterable[int]) -> list[str]: ...
    def to_tokens(self, ids: int | Iterable[int]) -> str | list[str]:
        """The token of an id, or the tokens of several; ``IndexError`` outside 0 to len - 1."""
        listed = list(ids) if isinstance(ids, Iterable) and not isinstance(ids, (np.ndarray, str, bytes)) else ids
        array = as_ids(listed, "ids", len(self))
        if array.ndim == 0:
            return self.idx_to_token[int(array)]
        return [self.idx_to_token[i] for i in array.ravel().tolist()]

    def readable(self, ids: Iterable[int]) -> list[str]:
        """The tokens of ``ids`` for display: byte-pair tokens as the text that they complete."""
        if self.rules is None:
            return self.to_tokens(ids)
        decoder = Decoder(self)
        pieces = [decoder.text(int(i)) for i in ids]
        if pieces:
            pieces[-1] += decoder.rest()
        return pieces

    def encode(self, tokens: Iterable[str]) -> NDArray[np.int32]:
        """Ids of ``tokens`` as int32; tokens not in the vocabulary become ``<unk>``."""
        if not isinstance(tokens, Iterable):
            raise TypeError(f"tokens is {kind_of(tokens)}, expected a list of str")
        get, unk, listed = self.token_to_idx.get, self.unk, list(tokens)
        ids = np.fromiter((get(token, unk) for token in listed), np.int32, len(listed))
        if (ids == unk).any():
            for token in listed:
                if not isinstance(token, str):
                    raise TypeError(f"the token {brief(token)} is {kind_of(token)}, expected a str")
        return ids

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text by this vocabulary's tokenizer."""
        check_text(text)
        text = text.lower() if self.lower else text
        return tokens_of(text, self.tokenizer) if self.rules is None else bpe_tokenize(text, self.rules)

    def encode_text(self, text: str) -> NDArray[np.int32]:
        """Ids of the tokens of a text by this vocabulary's tokenizer.

        Raises ``ValueError`` for a text whose letters a tokenizer for the letters a to z would all drop.
        """
        if self.tokenizer == "char" and isinstance(text, str) and len(text) >= _LONG:
            return self._encode_characters(text)
        tokens = self.tokenize(text)
        check_letters(text, self.tokenizer)
        return self.encode(tokens)

    def encode_part(self, text: str) -> NDArray[np.int32]:
        """:meth:`encode_text` of a part of a text, which may lack the letters that the whole has."""
        return self.encode_text(text) if self.tokenizer == "char" else self.encode(self.tokenize(text))

    def _encode_characters(self, text: str) -> NDArray[np.int32]:
        """The same with a table of all characters, which pays for long texts."""
        check_text(text)
        codes = np.frombuffer((text.lower() if self.lower else text).encode("utf-32-le"), np.uint32)
        own = {ord(token): i for token, i in self.token_to_idx.items() if len(token) == 1}
        table = np.full(max(own, default=0) + 2, self.unk, np.int32)  # the last entry is for all higher characters
        table[list(own)] = list(own.values())
        return table[np.minimum(codes, len(table) - 1)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids."""
        tokens = self.to_tokens(ids)
        return detokenize(tokens, self.tokenizer) if self.rules is None else bpe_detokenize(tokens, self.rules)
