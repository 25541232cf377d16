"""From a file to tokens and back."""

from __future__ import annotations

import codecs
import gzip
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable

import numpy as np

from rnnfast._arrays import between
from rnnfast._expect import brief, kind_of, shown
from rnnfast.files import PathLike, checked_path

WORD_V1 = "word-v1"  # "word" of old model files, which cut at combining marks
UNKNOWN, PADDING, BEGIN_OF_SENTENCE, END_OF_SENTENCE = "<unk>", "<pad>", "<bos>", "<eos>"

# Reserved tokens such as <unk> stay whole; words keep their inner apostrophes; everything else stands alone.
_LETTERS = re.compile(r"<\w+>|\w+(?:['’]\w+)*|[^\w\s]|\n")
_NO_SPACE_BEFORE = set(".,;:!?)]}%…’”")
_NO_SPACE_AFTER = set("([{$“")


def read_text(path: PathLike) -> str:
    """The text of a UTF-8 file, unpacked if it is one of gzip's.

    Raises ``FileNotFoundError``, or ``ValueError`` for a file that is empty, binary or not UTF-8.
    """
    return "".join(read_pieces(path, -1))


def read_pieces(path: PathLike, size: int) -> Iterator[str]:
    """The text of :func:`read_text` in pieces of about ``size`` bytes, -1 for all at once. No character is cut."""
    file = Path(checked_path(path))
    if file.is_dir():
        raise ValueError(f"{shown(file)} is a folder, expected a text file")
    if not file.exists():
        raise FileNotFoundError(f"{shown(file)} does not exist; give the path of a text file")
    with file.open("rb") as opened:
        is_packed = file.suffix == ".gz" or opened.peek(2)[:2] == _GZIP
        yield from _decoded(_reads(gzip.GzipFile(fileobj=opened) if is_packed else opened, size, str(file)), str(file))


_GZIP = b"\x1f\x8b"  # how gzip's files begin


def _reads(file: Any, size: int, name: str) -> Iterator[bytes]:
    """What the file holds, and an empty piece at its end."""
    while True:
        try:
            data: bytes = file.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{name} is no complete gzip file: {error}") from None
        yield data
        if not data:
            return


def _decoded(pieces: Iterable[bytes], name: str) -> Iterator[str]:
    """The text of UTF-8 ``pieces``, of which the last is empty."""
    decoder, done, held = codecs.getincrementaldecoder("utf-8-sig")(), 0, ""
    for data in pieces:
        if (zero := data.find(b"\0")) >= 0:
            raise ValueError(f"{name} looks binary (zero byte at {done + zero}), expected UTF-8 text")
        waiting = len(decoder.getstate()[0])
        try:
            text = held + decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name} is not UTF-8 (byte {error.object[error.start]:#04x} at {done - waiting + error.start}); "
                "convert it first, for example with iconv -t UTF-8"
            ) from None
        done += len(data)
        held = "\r" if data and text.endswith("\r") else ""  # perhaps of a line's end in two pieces
        yield text[: len(text) - len(held)].replace("\r\n", "\n")
    if not done:
        raise ValueError(f"{name} is empty, expected text")


def unpacked(data: bytes) -> bytes:
    """``data`` itself, or what gzip packed into it."""
    return gzip.decompress(data) if data.startswith(_GZIP) else data


def decode_bytes(data: bytes, name: str) -> str:
    """The text of UTF-8 ``data``; ``ValueError`` names where it came from, ``name``, if it is empty, binary or not UTF-8."""
    return "".join(_decoded((data, b""), name))


def check_text(text: Any, name: str = "the text") -> None:
    """``TypeError`` for what is no str, ``ValueError`` for a lone surrogate, which no file can hold."""
    if not isinstance(text, str):
        raise TypeError(f"{name} is {kind_of(text)}, expected a str")
    if text.isascii():
        return
    for at in range(0, len(text), _PIECE):
        try:
            text[at : at + _PIECE].encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{name} has a lone surrogate, {text[at + error.start]!r}, at character {at + error.start}; decode it again, "
                "for example with errors='replace'"
            ) from None


_PIECE = 1 << 20


def whole_tokens(pieces: Iterable[str], tokenizer: str, *, lower: bool = False) -> Iterator[str]:
    """A text's ``pieces`` cut anew, so that the tokens of each after another are those of the whole text.

    They are cut before white space, which begins a token for every tokenizer, or anywhere for characters. Text without white space
    comes in one piece.
    """
    kept = ""
    for piece in pieces:
        text = kept + piece
        cut = len(text) if tokenizer == "char" and not lower else _last_cut(text, len(kept), tokenizer)
        if cut:
            yield text[:cut]
        kept = text[cut:]
    if kept:
        yield kept


def _last_cut(text: str, begin: int, tokenizer: str) -> int:
    """Where white space follows something else: the last place from ``begin`` on, 0 for none. What is white space to Python but not to
    others does not count."""
    for at in range(len(text) - 1, max(begin, 1) - 1, -1):
        if text[at] in " \t\n":
            before = text[at - 1]
            # d2l's characters have one space for all between two letters.
            if not before.isspace() and (tokenizer != "d2l-char" or (before.isascii() and before.isalpha())):
                return at
    return 0


def _char_tokens(text: str) -> list[str]:
    return list(text)


_FIRST_MARK = "\u0300"


@lru_cache(maxsize=2)
def _word_patterns(astral: bool) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What continues a character, and a token of a text that has such.

    The first: combining marks (categories Mn, Mc, Me) and the joiners U+200C and U+200D, which \\w leaves out. They are made of
    this Python's tables when they are first needed: only planes 0, 1 and 14 of Unicode have marks. Those beyond plane 0 make a pattern
    slow, so they are in it for ``astral`` texts alone.
    """
    in_plane_0, beyond = (
        "".join(c for c in map(chr, codes) if unicodedata.category(c)[0] == "M")
        for codes in (range(0x10000), [*range(0x10000, 0x20000), *range(0xE0000, 0xE1000)])
    )
    joined = f"[{in_plane_0}\u200c\u200d]"
    word = rf"\w[\w{joined[1:-1]}]*"
    if astral:
        joined = rf"(?:{joined}|(?=[\U00010000-\U0010ffff])[{beyond}])"
        word = rf"\w(?:\w|{joined})*"
    return re.compile(joined), re.compile(rf"<{word}>|{word}(?:['’]{word})*|[^\w\s]{joined}*|\n")


def _word_tokens(text: str) -> list[str]:
    if (highest := max(text, default="")) < _FIRST_MARK:
        return _letter_tokens(text)
    mark, token = _word_patterns(highest > "\uffff")
    return _findall(token, text) if mark.search(text) else _letter_tokens(text)


def _letter_tokens(text: str) -> list[str]:
    """The words of models from before combining marks were parts of them."""
    return _findall(_LETTERS, text)


def _findall(pattern: re.Pattern[str], text: str) -> list[str]:
    return [END_OF_SENTENCE if token == "\n" else token for token in pattern.findall(text)]


def _join_words(tokens: Iterable[str]) -> str:
    pieces: list[str] = []
    glue = True
    for token in tokens:
        if token == END_OF_SENTENCE:
            pieces.append("\n")
            glue = True
            continue
        if not glue and token not in _NO_SPACE_BEFORE:
            pieces.append(" ")
        pieces.append(token)
        glue = token in _NO_SPACE_AFTER
    return "".join(pieces)


def _whitespace_tokens(text: str) -> list[str]:
    lines = text.split("\n")
    tokens = [token for line in lines[:-1] for token in (*line.split(), END_OF_SENTENCE)]
    return tokens + lines[-1].split()


def _join_whitespace(tokens: Iterable[str]) -> str:
    return re.sub(r" ?\n ?", "\n", " ".join("\n" if token == END_OF_SENTENCE else token for token in tokens))


def _d2l_text(text: str) -> str:
    return re.sub("[^A-Za-z]+", " ", text).lower()


def _d2l_pair_text(text: str) -> str:
    """Marks apart from the word before them, no-break spaces plain, all in lower case."""
    return re.sub(r"(?<=[^ ])([,.!?])", r" \1", re.sub("[\u202f\xa0]", " ", text)).lower()


def _unicode_tokens(text: str) -> list[str]:
    try:
        import regex
    except ImportError:
        raise ImportError("the tokenizer 'unicode' needs regex: pip install 'rnnfast[unicode]'") from None
    pieces = regex.split(r"(?V1)(?w)\b", text)
    return [
        END_OF_SENTENCE if token == "\n" else token
        for piece in pieces
        for token in (("\n",) * piece.count("\n") if piece.isspace() else (piece,))
        if token
    ]


_TOKENIZERS: dict[str, tuple[Callable[[str], list[str]], Callable[[Iterable[str]], str]]] = {
    "char": (_char_tokens, "".join),
    "word": (_word_tokens, _join_words),
    WORD_V1: (_letter_tokens, _join_words),
    "whitespace": (_whitespace_tokens, _join_whitespace),
    "unicode": (_unicode_tokens, _join_words),
    "d2l-char": (lambda text: list(_d2l_text(text)), "".join),
    "d2l-word": (lambda text: _d2l_text(text).split(), " ".join),
    "d2l-nmt": (lambda text: _whitespace_tokens(_d2l_pair_text(text)), _join_whitespace),
}
TOKENIZERS = tuple(name for name in _TOKENIZERS if name != WORD_V1)
# In files "word" is what it was when they were first written, so that an old model reads as it was trained.
_NAMES_IN_FILES = {"word": "word-v2", WORD_V1: "word"}
BPE = "bpe"  # has rules beside its name; see train_bpe


def name_in_file(tokenizer: str) -> str:
    """What a file calls a tokenizer."""
    return _NAMES_IN_FILES.get(tokenizer, tokenizer)


def tokenizer_in_file(name: str) -> str:
    """The tokenizer that a file calls ``name``."""
    for tokenizer, held in _NAMES_IN_FILES.items():
        if name == held:
            return tokenizer
    if name in _NAMES_IN_FILES:
        raise ValueError(f"unknown tokenizer {brief(name)} in a file")
    return name


def check_tokenizer(name: str, rules: str | None = None) -> None:
    """``ValueError`` if there is no tokenizer of that name; ``"bpe"`` is one where its rules are given."""
    if name == BPE and rules is not None:
        _bpe(rules)
    else:
        _named(name)


def _named(name: str) -> tuple[Callable[[str], list[str]], Callable[[Iterable[str]], str]]:
    if not isinstance(name, str) or name not in _TOKENIZERS:
        raise ValueError(f"unknown tokenizer {brief(name)}: expected one of {', '.join(TOKENIZERS)}")
    return _TOKENIZERS[name]


def train_bpe(text: str, size: int, reserved: Sequence[str] = ()) -> tuple[str, list[str]]:
    """Rules of a byte-pair encoding with ``size`` tokens, as Hugging Face's tokenizers writes them, and its tokens by id:
    ``<unk>``, the ``reserved`` ones, the rest.

    Bytes are the smallest parts, so no text has unknown ones. Source: R. Sennrich et al., arXiv:1508.07909; on bytes: GPT-2.
    """
    check_text(text)
    between(size, 1, 2**24, "size")
    kit = _tokenizers()
    alphabet = kit.pre_tokenizers.ByteLevel.alphabet()
    if size <= len(alphabet) + len(reserved):
        raise ValueError(
            f"a byte-pair vocabulary of {size} tokens, expected more than the {len(alphabet) + len(reserved)} of the "
            f"bytes{' and the reserved ones' if reserved else ''}"
        )
    tokenizer = kit.Tokenizer(kit.models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = kit.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = kit.decoders.ByteLevel()
    trainer = kit.trainers.BpeTrainer(
        vocab_size=size, special_tokens=[UNKNOWN, *reserved], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return tokenizer.to_str(), [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]


def _tokenizers() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError:
        raise ImportError("the tokenizer 'bpe' needs Hugging Face's tokenizers: pip install 'rnnfast[hf]'") from None
    return tokenizers


@lru_cache(maxsize=8)
def _bpe(rules: str) -> Any:
    kit = _tokenizers()
    try:
        return kit.Tokenizer.from_str(rules)
    except Exception as error:  # the library raises nothing more particular
        raise ValueError(f"the rules of the byte-pair encoding cannot be read: {error}") from None


def bpe_tokenize(text: str, rules: str) -> list[str]:
    """Tokens of ``text`` by rules from :func:`train_bpe`."""
    check_text(text)
    tokens: list[str] = _bpe(rules).encode(text).tokens
    return tokens


def bpe_detokenize(tokens: Iterable[str], rules: str) -> str:
    """The text of byte-pair tokens."""
    text: str = _bpe(rules).decoder.decode(list(tokens))
    return text


@lru_cache(maxsize=1)
def _byte_of() -> dict[str, int]:
    """The byte that each character of a byte-pair token stands for: itself if it is visible, else one from U+0100 on (GPT-2)."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(0x100) if byte not in visible]
    return {**{chr(byte): byte for byte in visible}, **{chr(0x100 + i): byte for i, byte in enumerate(hidden)}}


class BytePairDecoder:
    """The text of byte-pair tokens as they come: a character made of several tokens comes with the last of them.

    >>> decoder = BytePairDecoder()
    >>> decoder.text("gr"), decoder.text("Ã"), decoder.text("¼"), decoder.text("Ã"), decoder.rest()
    ('gr', '', 'ü', '', '\ufffd')
    """

    def __init__(self) -> None:
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def text(self, token: str) -> str:
        """What ``token`` completes, and all of it that is whole."""
        byte_of = _byte_of()
        known = all(character in byte_of for character in token)  # not so in a reserved token such as <début…>
        return self._characters.decode(bytes(byte_of[c] for c in token) if known else token.encode())

    def rest(self) -> str:
        """What stands for bytes that no token completed."""
        return self._characters.decode(b"", final=True)


def is_byte_level(rules: str) -> bool:
    """Whether byte-pair ``rules`` spell bytes as :func:`train_bpe`'s do; other libraries have other spellings."""
    return type(_bpe(rules).decoder).__name__ == "ByteLevel"


def tokenize(text: str, tokenizer: str = "char") -> list[str]:
    """Tokens of ``text``.

    ``"char"``: every character. ``"word"``: words, with their combining marks, and punctuation marks. ``"whitespace"``: what stands between white space, as the
    Penn Treebank's files want it. ``"unicode"``: the same by Unicode's word boundaries (UAX #29), which ``"word"``
    only approximates (extra: ``unicode``). These three give ``<eos>`` for each line's end. ``"d2l-char"`` and
    ``"d2l-word"``: characters or words of the text in lower case with everything but the letters a to z as one space
    (Dive into Deep Learning, section 9.2). ``"d2l-nmt"``: what stands between white space, in lower case, after a space was
    put before , . ! and ? (section 10.5); ``<eos>`` for a line's end.

    >>> tokenize("Don't panic.\\n", "word")
    ["Don't", 'panic', '.', '<eos>']
    """
    check_text(text)
    return _named(tokenizer)[0](text)


def count_tokens(text: str, tokenizer: str, counts: Counter[str]) -> None:
    """Adds to ``counts`` how often each token of ``text`` occurs.

    >>> count_tokens("abba", "char", counts := Counter("b"))
    >>> counts
    Counter({'b': 3, 'a': 2})
    """
    if tokenizer != "char":
        counts.update(tokenize(text, tokenizer))
        return
    check_text(text)
    found = np.bincount(np.frombuffer(text.encode("utf-32-le"), np.uint32))
    for code in np.flatnonzero(found).tolist():
        counts[chr(code)] += int(found[code])


def detokenize(tokens: Iterable[str], tokenizer: str = "char") -> str:
    """Readable text of ``tokens``.

    >>> detokenize(["Don't", "panic", ".", "<eos>"], "word")
    "Don't panic.\\n"
    """
    listed = list(tokens)
    for token in listed:
        if not isinstance(token, str):
            raise TypeError(f"the token {brief(token)} is {kind_of(token)}, expected a str")
    return _named(tokenizer)[1](listed)
