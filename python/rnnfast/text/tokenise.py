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
from rnnfast.text.letters import check_letters

WORD_V1 = "word-v1"  # "word" of old model files, which splits at combining marks
UNKNOWN, PADDING, BEGIN_OF_SENTENCE, END_OF_SENTENCE = "<unk>", "<pad>", "<bos>", "<eos>"

# Reserved tokens such as <unk> are single tokens; words keep inner apostrophes; any other character is a token.
_LETTERS = re.compile(r"<\w+>|\w+(?:['’]\w+)*|[^\w\s]|\n")
_NO_SPACE_BEFORE = set(".,;:!?)]}%…’”")
_NO_SPACE_AFTER = set("([{$“")


def read_text(path: PathLike) -> str:
    """The text of a UTF-8 file, unpacked if it is a gzip file.

    Raises ``FileNotFoundError``, or ``ValueError`` for a file that is empty, binary or not UTF-8.
    """
    return "".join(read_pieces(path, -1))


def read_pieces(path: PathLike, size: int) -> Iterator[str]:
    """The text of :func:`read_text` in pieces of about ``size`` bytes, -1 for a single one. Characters are not split."""
    file = Path(checked_path(path))
    if file.is_dir():
        raise ValueError(f"{shown(file)} is a folder, expected a text file")
    if not file.exists():
        raise FileNotFoundError(f"{shown(file)} does not exist; give the path of a text file")
    with file.open("rb") as opened:
        is_packed = file.suffix == ".gz" or opened.peek(2)[:2] == _GZIP
        yield from _decoded(_reads(gzip.GzipFile(fileobj=opened) if is_packed else opened, size, str(file)), str(file))


_GZIP = b"\x1f\x8b"  # the first bytes of a gzip file


def _reads(file: Any, size: int, name: str) -> Iterator[bytes]:
    """The content of the file, and an empty piece at its end."""
    while True:
        try:
            data: bytes = file.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{name} is not a complete gzip file: {error}") from None
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
        held = "\r" if data and text.endswith("\r") else ""  # possibly half of a line end
        yield text[: len(text) - len(held)].replace("\r\n", "\n")
    if not done:
        raise ValueError(f"{name} is empty, expected text")


def unpacked(data: bytes) -> bytes:
    """``data``, unpacked if gzip packed it."""
    return gzip.decompress(data) if data.startswith(_GZIP) else data


def decode_bytes(data: bytes, name: str) -> str:
    """The text of UTF-8 ``data``; ``ValueError`` names the source, ``name``, if it is empty, binary or not UTF-8."""
    return "".join(_decoded((data, b""), name))


def check_text(text: Any, name: str = "the text") -> None:
    """``TypeError`` for anything but a str, ``ValueError`` for a lone surrogate, which UTF-8 cannot encode."""
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
    """The ``pieces`` of a text split elsewhere, so that their tokens, concatenated, are those of the whole text.

    They are split before white space, which begins a token for every tokenizer, or anywhere for characters. Text without white space
    is one piece.
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
    """The last position from ``begin`` on where white space follows another character; 0 for none. Characters that only Python treats
    as white space are ignored."""
    for at in range(len(text) - 1, max(begin, 1) - 1, -1):
        if text[at] in " \t\n":
            before = text[at - 1]
            # d2l-char has one space for everything between two letters.
            if not before.isspace() and (tokenizer != "d2l-char" or (before.isascii() and before.isalpha())):
                return at
    return 0


def _char_tokens(text: str) -> list[str]:
    return list(text)


_FIRST_MARK = "\u0300"


@lru_cache(maxsize=2)
def _word_patterns(astral: bool) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A pattern of the characters that continue another one, and a pattern of tokens for texts with such characters.

    These are combining marks (categories Mn, Mc, Me) and the joiners U+200C and U+200D, which \\w does not match. The patterns are
    built from Python's tables when they are first needed: only planes 0, 1 and 14 of Unicode have marks. Marks beyond plane 0 make a
    pattern slow, so it has them for ``astral`` texts only.
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
    """Words as in older models, where combining marks are separate."""
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
    """Lower case, with a space before punctuation marks, and spaces for no-break spaces."""
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


def _jieba_tokens(text: str) -> list[str]:
    try:
        import rjieba
    except ImportError:
        raise ImportError("the tokenizer 'jieba' needs rjieba: pip install 'rnnfast[jieba]'") from None
    tokens: list[str] = rjieba.cut(text)
    return tokens


_TOKENIZERS: dict[str, tuple[Callable[[str], list[str]], Callable[[Iterable[str]], str]]] = {
    "char": (_char_tokens, "".join),
    "word": (_word_tokens, _join_words),
    WORD_V1: (_letter_tokens, _join_words),
    "whitespace": (_whitespace_tokens, _join_whitespace),
    "unicode": (_unicode_tokens, _join_words),
    "jieba": (_jieba_tokens, "".join),
    "d2l-char": (lambda text: list(_d2l_text(text)), "".join),
    "d2l-word": (lambda text: _d2l_text(text).split(), " ".join),
    "d2l-nmt": (lambda text: _whitespace_tokens(_d2l_pair_text(text)), _join_whitespace),
}
TOKENIZERS = tuple(name for name in _TOKENIZERS if name != WORD_V1)
# In files "word" keeps its first meaning, so that old models read texts as they were trained.
_NAMES_IN_FILES = {"word": "word-v2", WORD_V1: "word"}
BPE = "bpe"  # also has rules; see train_bpe


def name_in_file(tokenizer: str) -> str:
    """The name of a tokenizer in files."""
    return _NAMES_IN_FILES.get(tokenizer, tokenizer)


def tokenizer_in_file(name: str) -> str:
    """The tokenizer that is called ``name`` in files."""
    for tokenizer, held in _NAMES_IN_FILES.items():
        if name == held:
            return tokenizer
    if name in _NAMES_IN_FILES:
        raise ValueError(f"unknown tokenizer {brief(name)} in a file")
    return name


def check_tokenizer(name: str, rules: str | None = None) -> None:
    """``ValueError`` if there is no tokenizer of that name; ``"bpe"`` needs its rules."""
    if name == BPE and rules is not None:
        _bpe(rules)
    else:
        _named(name)


def _named(name: str) -> tuple[Callable[[str], list[str]], Callable[[Iterable[str]], str]]:
    if not isinstance(name, str) or name not in _TOKENIZERS:
        raise ValueError(f"unknown tokenizer {brief(name)}: expected one of {', '.join(TOKENIZERS)}")
    return _TOKENIZERS[name]


def train_bpe(text: str, size: int, reserved: Sequence[str] = ()) -> tuple[str, list[str]]:
    """Rules of a byte-pair encoding with ``size`` tokens in the format of Hugging Face's tokenizers, and its tokens by id:
    ``<unk>``, the ``reserved`` ones, the others.

    The smallest units are bytes, so no text has unknown tokens. Source: R. Sennrich et al., arXiv:1508.07909; on bytes: GPT-2.
    """
    check_text(text)
    between(size, 1, 2**24, "size")
    kit = _tokenizers()
    alphabet = kit.pre_tokenizers.ByteLevel.alphabet()
    if size <= len(alphabet) + len(reserved):
        raise ValueError(
            f"size is {size} tokens, expected more than the {len(alphabet) + len(reserved)} of the "
            f"bytes{' and the reserved tokens' if reserved else ''}"
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
    except Exception as error:  # the library raises no more specific class
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
    """The byte of each character in byte-pair tokens: GPT-2 writes visible bytes as they are and others from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(0x100) if byte not in visible]
    return {**{chr(byte): byte for byte in visible}, **{chr(0x100 + i): byte for i, byte in enumerate(hidden)}}


class BytePairDecoder:
    """The text of byte-pair tokens as they arrive: a character of several tokens is returned with the last of them.

    >>> decoder = BytePairDecoder()
    >>> decoder.text("gr"), decoder.text("Ã"), decoder.text("¼"), decoder.text("Ã"), decoder.rest()
    ('gr', '', 'ü', '', '\ufffd')
    """

    def __init__(self) -> None:
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def text(self, token: str) -> str:
        """The characters that ``token`` completes."""
        byte_of = _byte_of()
        known = all(character in byte_of for character in token)  # false for a reserved token such as <début…>
        return self._characters.decode(bytes(byte_of[c] for c in token) if known else token.encode())

    def rest(self) -> str:
        """The replacement for bytes that no token completed."""
        return self._characters.decode(b"", final=True)


def is_byte_level(rules: str) -> bool:
    """Whether byte-pair ``rules`` encode bytes as those of :func:`train_bpe` do; other libraries differ."""
    return type(_bpe(rules).decoder).__name__ == "ByteLevel"


def tokenize(text: str, tokenizer: str = "char") -> list[str]:
    """Tokens of ``text``.

    ``"char"``: characters. ``"word"``: words, with their combining marks, and punctuation marks. ``"whitespace"``: strings
    separated by white space, as in the Penn Treebank's files. ``"unicode"``: words by Unicode's boundaries (UAX #29), which
    ``"word"`` only approximates (extra: ``unicode``). These three have ``<eos>`` at the end of each line. ``"jieba"``: Chinese
    words, by jieba's dictionary and its hidden Markov model for other words (extra: ``jieba``); every space and line end is a
    token, so that the tokens add up to the text. ``"d2l-char"`` and ``"d2l-word"``: characters or words of the text in lower
    case, with one space for everything but the letters a to z (Dive into Deep Learning, section 9.2). ``"d2l-nmt"``: strings
    separated by white space, in lower case, with a space inserted before , . ! and ? (section 10.5); ``<eos>`` at the end of
    each line.

    Raises ``ValueError`` for an unknown tokenizer, and for a text whose letters ``"d2l-char"`` or ``"d2l-word"`` would all drop.

    >>> tokenize("Don't panic.\\n", "word")
    ["Don't", 'panic', '.', '<eos>']
    """
    tokens = tokens_of(text, tokenizer)
    check_letters(text, tokenizer)
    return tokens


def tokens_of(text: str, tokenizer: str) -> list[str]:
    """:func:`tokenize` of a part of a text, which may lack the letters that the whole has."""
    check_text(text)
    return _named(tokenizer)[0](text)


def count_tokens(text: str, tokenizer: str, counts: Counter[str]) -> None:
    """Adds the number of occurrences of each token of ``text`` to ``counts``.

    >>> count_tokens("abba", "char", counts := Counter("b"))
    >>> counts
    Counter({'b': 3, 'a': 2})
    """
    if tokenizer != "char":
        counts.update(tokens_of(text, tokenizer))
        return
    check_text(text)
    found = np.bincount(np.frombuffer(text.encode("utf-32-le"), np.uint32))
    for code in np.flatnonzero(found).tolist():
        counts[chr(code)] += int(found[code])


def detokenize(tokens: Iterable[str], tokenizer: str = "char") -> str:
    """The text of ``tokens``.

    >>> detokenize(["Don't", "panic", ".", "<eos>"], "word")
    "Don't panic.\\n"
    """
    listed = list(tokens)
    for token in listed:
        if not isinstance(token, str):
            raise TypeError(f"the token {brief(token)} is {kind_of(token)}, expected a str")
    return _named(tokenizer)[1](listed)
