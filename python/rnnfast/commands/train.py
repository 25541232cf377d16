"""``rnnfast train``: a language model from a text."""

from __future__ import annotations

import argparse
import hashlib
import platform
import re
from typing import Any

from rnnfast import presets
from rnnfast.commands.adapting import adapting, add_adapting
from rnnfast.commands.options import groups, integer, named, perplexity, real, text_of
from rnnfast.commands.training import DEFAULTS, Run, add_options, option_of
from rnnfast.models.language_model import NORMS, OUTPUTS
from rnnfast.nn.recurrent import LAYERS
from rnnfast.text.corpus import Corpus
from rnnfast.text.tokenise import BPE, TOKENIZERS
from rnnfast.text.vocab import Vocab

_DATA = ("ptb", "timemachine", "tinyshakespeare", "wikitext2")
_DEFAULTS: dict[str, Any] = {
    "file": None, "data": None, "tokenizer": "char", "vocab_size": 8000, "min_freq": 1, "max_vocab": 0, "max_tokens": 0,
    "cell": "rnn", "hidden_size": 256, "num_layers": 1, "embedding_size": 0, "dropout": 0.0, "variational": False,
    "tie_weights": False, "residual": False, "norm": "none", "embedding_dropout": None, "output_dropout": None, "weight_drop": 0.0, "output_layer": "softmax", "cutoffs": "", "div_value": None, "num_sampled": 0,
    "window": 1, "weights": "f32", "init_scale": 0.0, "dynamic": None, "cache": None, "num_steps": 50, "sampling": "sequential", **DEFAULTS,
}  # fmt: skip


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    train = commands.add_parser(
        "train",
        help="train a language model on a text",
        description="Trains a recurrent language model. Without FILE and --data it uses the help texts of Python.",
    )
    data, model = groups(train, "data", "model")
    data.add_argument(
        "file", nargs="?", metavar="FILE", default=argparse.SUPPRESS, help="UTF-8 text, also .gz; - is standard input"
    )
    option = option_of(data, _DEFAULTS)
    option("--data", "a public data set instead of FILE", choices=_DATA)
    option("--tokenizer", "what counts as a token", choices=(*TOKENIZERS, BPE))
    option("--vocab-size", "vocabulary size of the tokenizer bpe", type=integer(1))
    option("--min-freq", "rarer tokens are read as <unk>", type=integer(1))
    option(
        "--max-vocab", "keep the N most frequent tokens, others are read as <unk>; 0: all", type=integer(0), metavar="N"
    )
    option("--max-tokens", "use only the first tokens of the text; 0: all", type=integer(0, 2**62))
    option("--num-steps", "time steps of a batch, through which gradients flow back", type=integer(1))
    option("--sampling", "batches that continue each other, or random chunks", choices=("sequential", "random"))
    model.add_argument(
        "--preset", choices=presets.names(), help="settings of a published model; other options override them"
    )
    option = option_of(model, _DEFAULTS)
    option("--cell", "cell of the recurrent layers", choices=list(LAYERS))
    option("--window", "of qrnn: the steps of input that its gates read", type=int, choices=(1, 2))
    option("--weights", "precision of products in training; the weights and all sums stay f32", choices=("f32", "bf16"))
    option("--hidden-size", "units of each layer", type=integer(1))
    option("--num-layers", "recurrent layers", type=integer(1))
    option("--embedding-size", "size of the embeddings; 0: one-hot input", type=integer(0))
    option("--dropout", "on every connection that is not recurrent", type=real(0, 1))
    option("--embedding-dropout", "on the embeddings, instead of --dropout", type=real(0, 1))
    option("--output-dropout", "before the output layer, instead of --dropout", type=real(0, 1))
    option("--weight-drop", "on the recurrent weights", type=real(0, 1))
    option("--variational", "the same dropout masks at every step", action="store_true")
    option("--tie-weights", "share one table between embedding and output", action="store_true")
    option("--residual", "every recurrent layer adds to what it reads", action="store_true")
    option("--norm", "normalization of what the recurrent and output layers read", choices=("none", *NORMS))
    option("--output-layer", "softmax over all tokens; adaptive or sampled for large vocabularies", choices=OUTPUTS)
    option(
        "--cutoffs", "of adaptive: the ids where the clusters begin, such as 2000,10000", metavar="IDS", type=_cutoffs
    )
    option("--div-value", "of adaptive: factor by which the clusters shrink (4)", type=real(1))
    option("--num-sampled", "of sampled: tokens drawn in each step", type=integer(1))
    option("--init-scale", "initial weights are uniform in plus or minus this; 0: PyTorch's", type=real(0))
    add_options(train, _DEFAULTS)
    add_adapting(option_of(train.add_argument_group("adapting"), _DEFAULTS), "test text")
    train.set_defaults(run=run)


def _cutoffs(text: str) -> str:
    """The type of an option: integers between commas."""
    if not re.fullmatch(r"\d{1,10}(,\d{1,10})*", text):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a list of ids such as 2000,10000")
    return text


def run(args: argparse.Namespace) -> None:
    """Trains and tests, writes the model and the files with it, prints a sample."""
    import rnnfast as rf

    this = Run(args, _DEFAULTS, presets.load(args.preset) if args.preset else {})
    s = this.settings
    if s.file is not None and s.data is not None:
        raise ValueError(f"both the file {s.file} and --data {s.data} are given; give one of them")
    base = this.base if isinstance(this.base, rf.LanguageModel) else None
    train, valid, test, digest = _read(s, base.vocab if base else None)
    this.check_data(train.name, digest)
    dynamic, cache = adapting(s.dynamic, s.cache, train)
    model = base or rf.LanguageModel(
        train.vocab, cell=s.cell, embedding_size=s.embedding_size, hidden_size=s.hidden_size,
        num_layers=s.num_layers, dropout=s.dropout, init_scale=s.init_scale or None, variational=s.variational,
        tie_weights=s.tie_weights, residual=s.residual, norm=None if s.norm == "none" else s.norm,
        embedding_dropout=s.embedding_dropout, output_dropout=s.output_dropout, weight_drop=s.weight_drop, output=s.output_layer, cutoffs=[int(id_) for id_ in s.cutoffs.split(",") if id_],
        div_value=s.div_value, num_sampled=s.num_sampled or None, window=s.window, weights=s.weights, seed=s.seed,
    )  # fmt: skip
    tokens = len(train) + len(valid) + len(test)
    this.say(f"{train.name}: {tokens:,} {s.tokenizer} tokens, vocabulary of {len(train.vocab):,}")
    if this.args.start is not None:
        this.say(f"{100 * (train.ids == 0).mean():.2f}% of the tokens to train on are not in the model's vocabulary")
    history = this.fit(model, train, valid, num_steps=s.num_steps, sampling=s.sampling)
    result = rf.evaluate(model, test, distributed=this.ranks)
    if not this.leads:
        return
    this.say(f"test perplexity {perplexity(result.perplexity)}  ({result.bits_per_token:.3f} bits per token)")
    found = {}
    if dynamic is not None or cache is not None:
        found["adapted_perplexity"] = rf.evaluate(model, test, dynamic=dynamic, cache=cache).perplexity
        this.say(f"test perplexity {perplexity(found['adapted_perplexity'])} of the model that adapts to the text")
    prompt = _opening(test.vocab.decode(test.ids))
    sample = rf.generate(
        model, prompt, length=300 if s.tokenizer.endswith("char") else 80, temperature=0.7, seed=s.seed
    )
    this.say(f"\n--- a sample ---\n{sample}\n---\n")
    this.tell(history, f"rnnfast generate {this.output} --prompt {prompt!r}")
    this.print_result(model, history, test_perplexity=result.perplexity, **found)


def _read(s: argparse.Namespace, known: Vocab | None) -> tuple[Corpus, Corpus, Corpus, str]:
    """Training, validation and test text with the ``known`` vocabulary or a new one, and their checksum."""
    import rnnfast as rf
    from rnnfast.text.datasets import python_topics

    if s.data is not None:
        name, text = s.data, rf.datasets.load(s.data)
    else:
        name = f"Python {platform.python_version()}'s help texts" if s.file is None else named(s.file)
        text = python_topics() if s.file is None else text_of(s.file)
    parts = [text] if isinstance(text, str) else [text["train"], text["valid"], text["test"]]
    digest = hashlib.sha256("".join(parts).encode()).hexdigest()
    vocab = rf.Vocab.bpe(parts[0], s.vocab_size) if s.tokenizer == BPE and known is None else known
    corpus = rf.Corpus.from_text(
        parts[0], tokenizer=s.tokenizer, min_freq=s.min_freq, max_vocab=s.max_vocab or None, vocab=vocab, name=name
    )
    if s.max_tokens:
        corpus = rf.Corpus(corpus.ids[: s.max_tokens], corpus.vocab, name=name)
    if len(parts) == 1:
        train, valid, test = corpus.split(0.9, 0.05, 0.05)
        return train, valid, test, digest
    valid, test = (rf.Corpus.from_text(part, vocab=corpus.vocab, name=name) for part in parts[1:])
    return corpus, valid, test, digest


def _opening(text: str) -> str:
    """The first two words of a line that looks like a sentence, else of the text."""
    return (re.search(r"^[A-Z][a-z]+ [a-z]+", text, re.MULTILINE) or re.search(r"\S+( \S+)?", text) or [text[:1]])[0]
