"""``rnnfast train-translation``: a translator from sentence pairs."""

from __future__ import annotations

import argparse
import hashlib
from typing import Any

import numpy as np

from rnnfast.commands.options import groups, integer, perplexity, real
from rnnfast.commands.training import DEFAULTS, Run, add_options, option_of
from rnnfast.nn.recurrent import LAYERS
from rnnfast.text.datasets import PAIRED
from rnnfast.text.tokenise import BPE, TOKENIZERS

_DECODERS = ("context_as_state", "context_as_input", "context_and_previous", "previous", "d2l")
_DEFAULTS: dict[str, Any] = {
    "source": None, "target": None, "data": None, "tokenizer": "word", "vocab_size": 8000, "lower": False, "min_freq": 2, "max_vocab": 0,
    "max_length": 0, "max_pairs": 0, "cell": "gru", "hidden_size": 256, "num_layers": 1, "embedding_size": 256,
    "bidirectional": False, "encoder_window": 1, "weights": "f32", "context": "last", "decoder": "context_and_previous", "attention": "none", "readout": "state",
    "teacher_forcing": 1.0, "dropout": 0.0, "output_dropout": None, "init_scale": 0.0, **DEFAULTS, "batch_size": 64,
    "output": "rnnfast-translator.safetensors",
}  # fmt: skip
_SAMPLES = 4


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    train = commands.add_parser(
        "train-translation",
        help="train a translator on sentence pairs",
        description="Trains an encoder and a decoder on sentence pairs: two files with corresponding lines, or one with lines "
        "source<TAB>target. 5% each are kept for validation and test. Without files and --data it uses "
        "English and French texts of a program's menus (extra: demo).",
    )
    data, model = groups(train, "data", "model")
    for name, text in (
        ("source", "UTF-8 text, also .gz: one sentence per line, or both sentences separated by a tab"),
        ("target", "the translations of the lines, if SOURCE has no tabs"),
    ):
        data.add_argument(name, nargs="?", metavar=name.upper(), default=argparse.SUPPRESS, help=text)
    option = option_of(data, _DEFAULTS)
    option("--data", "a public data set instead of files", choices=PAIRED)
    option("--tokenizer", "what counts as a token", choices=(*TOKENIZERS, BPE))
    option("--vocab-size", "vocabulary size of the tokenizer bpe on each side", type=integer(1))
    option("--lower", "convert both sides to lower case", action="store_true")
    option("--min-freq", "rarer tokens are read as <unk>", type=integer(1))
    option(
        "--max-vocab",
        "keep the N most frequent tokens of each side, others are read as <unk>; 0: all",
        type=integer(0),
        metavar="N",
    )
    option("--max-length", "truncate sentences to this many tokens, including <eos>; 0: never", type=integer(0))
    option("--max-pairs", "use only the first pairs for training; 0: all", type=integer(0))
    option = option_of(model, _DEFAULTS)
    option("--cell", "cell of encoder and decoder", choices=list(LAYERS))
    option("--hidden-size", "units of each layer", type=integer(1))
    option("--num-layers", "recurrent layers of each side", type=integer(1))
    option("--embedding-size", "size of the embeddings", type=integer(1))
    option("--bidirectional", "the encoder reads in both directions", action="store_true")
    option("--encoder-window", "of qrnn: the steps of input that the encoder's gates read", type=int, choices=(1, 2))
    option("--weights", "precision of products in training; the weights and all sums stay f32", choices=("f32", "bf16"))
    option("--context", "how the encoder's states are combined", choices=("last", "mean", "max"))
    option("--decoder", "where its initial state comes from and what its steps read", choices=_DECODERS)
    option(
        "--attention",
        "the score by which the decoder attends to the source",
        choices=("none", "additive", "dot", "general"),
    )
    option("--readout", "what the output layer reads", choices=("state", "all"))
    option("--teacher-forcing", "share of steps that read the true token", type=real(0, 1.0000001))
    option("--dropout", "on both embeddings and between layers", type=real(0, 1))
    option("--output-dropout", "on the input of the output layer (default: as --dropout)", type=real(0, 1))
    option("--init-scale", "initial weights are uniform in plus or minus this; 0: PyTorch's", type=real(0))
    add_options(train, _DEFAULTS)
    train.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Trains and tests, writes the model and the files with it, prints translations."""
    import rnnfast as rf

    this = Run(args, _DEFAULTS, {})
    s = this.settings
    if s.source is not None and s.data is not None:
        raise ValueError(f"both the file {s.source} and --data {s.data} are given; give one of them")
    name, parts = _read(s)
    digest = hashlib.sha256("\n".join(f"{a}\t{b}" for part in parts for a, b in part).encode()).hexdigest()
    this.check_data(name, digest)
    base = this.base if isinstance(this.base, rf.Seq2Seq) else None
    train = rf.ParallelCorpus.from_pairs(
        parts[0][: s.max_pairs or None], tokenizer=s.tokenizer, lower=s.lower, min_freq=s.min_freq, max_vocab=s.max_vocab or None,
        vocab_size=s.vocab_size, max_length=s.max_length or None, name=name,
        source_vocab=base.source_vocab if base else None, target_vocab=base.target_vocab if base else None,
    )  # fmt: skip
    vocabs: dict[str, Any] = {"source_vocab": train.source_vocab, "target_vocab": train.target_vocab}
    valid, test = (rf.ParallelCorpus.from_pairs(part, name=name, **vocabs) for part in parts[1:])
    model = base or rf.Seq2Seq(
        train.source_vocab, train.target_vocab, cell=s.cell, embedding_size=s.embedding_size, hidden_size=s.hidden_size,
        num_layers=s.num_layers, bidirectional=s.bidirectional, encoder_window=s.encoder_window, context=s.context, decoder=s.decoder,
        attention=s.attention, readout=s.readout, teacher_forcing=s.teacher_forcing, dropout=s.dropout,
        output_dropout=s.output_dropout, init_scale=s.init_scale or None, weights=s.weights, seed=s.seed,
    )  # fmt: skip
    this.say(
        f"{name}: {len(train):,} pairs to train on, {len(valid):,} to validate, {len(test):,} to test; "
        f"vocabularies of {len(train.source_vocab):,} and {len(train.target_vocab):,} {s.tokenizer} tokens"
    )
    if skipped := sum(corpus.skipped for corpus in (train, valid, test)):
        this.say(f"left out {skipped:,} pairs with an empty side")
    if train.truncated:
        this.say(f"truncated {train.truncated:,} sentences to {s.max_length} tokens")
    if s.source is None and s.data is None:
        this.say("these texts are enough for phrases, not for a language; give files with tens of thousands of pairs")
    if this.args.start is not None:
        for side, ids in (("source", train.source_ids), ("target", train.target_ids)):
            share = 100 * (np.concatenate(ids) == 0).mean()
            this.say(f"{share:.2f}% of the {side} tokens to train on are not in the model's vocabulary")
    history = this.fit(model, train, valid)
    result = rf.evaluate(model, test, distributed=this.ranks)
    if not this.leads:
        return
    this.say(f"test perplexity {perplexity(result.perplexity)}, {100 * result.token_accuracy:.1f}% of the tokens right")
    translations = rf.translate(model, test.sources)
    found = _bleu(translations, test, this)
    this.say("")
    for i in range(0, len(test), -(-len(test) // _SAMPLES)):
        this.say(f"  {test.sources[i]}\n= {test.targets[i]}\n> {translations[i]}\n")
    this.tell(history, f"echo {test.sources[0]!r} | rnnfast translate {this.output}")
    this.print_result(
        model, history, test_perplexity=result.perplexity, test_token_accuracy=result.token_accuracy,
        test_bleu=found.score if found else None, bleu_signature=found.signature if found else None,
    )  # fmt: skip


def _read(s: argparse.Namespace) -> tuple[str, list[list[tuple[str, str]]]]:
    """The pairs to train, validate and test with."""
    from rnnfast.text import datasets
    from rnnfast.text.pairs import read_pairs, split_numbers

    if s.data is not None:
        name, pairs = s.data, datasets.load(s.data)
    elif s.source is not None:
        name, pairs = s.source if s.target is None else f"{s.source}, {s.target}", read_pairs(s.source, s.target)
    else:
        name, pairs = "texts of JupyterLab's menus", datasets.interface_pairs()
    if isinstance(pairs, dict):
        return name, [pairs["train"], pairs["valid"], pairs["test"]]
    numbers = split_numbers([source for source, _ in pairs], (0.9, 0.05, 0.05), name=name)
    return name, [[pairs[i] for i in part] for part in numbers]


def _bleu(translations: list[str], test: Any, this: Run) -> Any:
    """BLEU of the test set; if it cannot be computed, prints why."""
    import rnnfast as rf

    try:
        found = rf.corpus_bleu(translations, test.targets, lower=test.target_vocab.lower)
    except ImportError as error:
        this.say(f"no test BLEU: {error}")
        return None
    this.say(f"test BLEU {found.score:.2f}  ({found.signature})")
    return found
