"""Texts: files, tokens, vocabularies, ids and minibatches."""

from rnnfast.text.pairs import RESERVED
from rnnfast.text.tokenise import (
    BEGIN_OF_SENTENCE,
    BPE,
    END_OF_SENTENCE,
    PADDING,
    TOKENIZERS,
    UNKNOWN,
    detokenize,
    read_text,
    tokenize,
)

__all__ = [
    "BEGIN_OF_SENTENCE", "BPE", "END_OF_SENTENCE", "PADDING", "RESERVED", "TOKENIZERS", "UNKNOWN", "detokenize", "read_text",
    "tokenize",
]  # fmt: skip
