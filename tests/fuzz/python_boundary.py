"""Calls every public function, method and property of rnnfast with arguments that are right, nearly right or absurd.

    python tests/fuzz/python_boundary.py --calls 100000 --seed 0 --log calls.txt

Whatever the arguments, a call returns or raises one of ``REFUSALS`` with one sentence, and numbers made out of finite numbers are
finite. The log's last line names the call that was running, for when a memory error ends the process. ``nox -s boundary`` runs it
under AddressSanitizer.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import faulthandler
import inspect
import io
import os
import pickle
import re
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import rnnfast as rf

REFUSALS = (ValueError, TypeError, IndexError, OverflowError)
# Other permitted results of a call: a missing file, a diverged training, a model too large for the machine.
ALSO = (OSError, MemoryError, ImportError, ArithmeticError)
# A message that exposes internals.
LEAKS = re.compile(r"\n|incompatible function arguments|std::|object has no attribute|pybind11|NoneType'? object")

SKIP = {
    "distributed", "FileFormatError", "NonFiniteLoss", "Interrupted", "datasets", "presets", "schedules", "averages", "__version__",
    "set_num_threads",  # called with small numbers only, below
    "pooch",
}  # fmt: skip
PRIVATE_BUT_PUBLIC = (
    "__call__",
    "__len__",
    "__getitem__",
    "__contains__",
    "__iter__",
    "__repr__",
    "__eq__",
    "__copy__",
    "__deepcopy__",
)
COUNTS = {
    "epochs", "length", "num_samples", "max_length", "beam_size", "n_best", "k", "steps", "order", "num_layers", "kernel_size",
    "dilation", "padding", "hidden_size", "embedding_size", "num_steps", "batch_size", "rows", "size", "input_size", "in_features",
    "out_features", "num_embeddings", "embedding_dim", "embed_dim", "in_channels", "out_channels", "tau", "parts", "vocab_size",
    "vocab", "source_vocab", "target_vocab", "max_size", "max_vocab", "start", "epoch", "every", "no_repeat_ngram_size", "n", "proj_size",
    "context_size", "top_k", "num_heads", "normalized_size", "patience", "threads", "attention_size",
}  # fmt: skip
# An absurd size is refused by its arithmetic; one between these and a sensible one would only fill the memory.
ABSURD_SIZES = [0, -1, 2**62, 2**63, 2**64, 2**200, -(2**40), 1.5, float("nan"), float("inf"), True, "3", None, [3]]
WORDS = [
    "f32", "bf16", "int8", "rnn", "gru", "lstm", "rnn_relu", "tanh", "relu", "sqrt", "same", "causal", "char", "word", "whitespace",
    "unicode", "jieba", "d2l-word", "sgd", "adam", "adamw", "constant", "cosine", "step:decay=0.5", "plateau", "sequential", "random", "last", "mean", "max",
    "none", "additive", "dot", "general", "d2l", "previous", "context_as_state", "context_as_input", "context_and_previous", "state",
    "all", "kneser_ney", "laplace", "mle", "<eos>", "<unk>", "", "a b", "ab ba", "é हिन्दी", "\ud800", "\x00", "x" * 300, "$x_$",
]  # fmt: skip


def small_arrays(draw, dims=None):
    shape = draw.choices([0, 1, 1, 2, 2, 3, 3, 4, 5], k=draw.randrange(5)) if dims is None else dims
    kind = draw.choice(["f4", "f4", "f4", "f4", "f8", "i4", "i8", "u8", "bool", "f2", ">f4", "c8", "O", "U3", "M8[s]"])
    random = np.random.default_rng(draw.randint(0, 2**32 - 1))
    content = draw.choice(["normal", "normal", "normal", "small integers", "zeros", "nan", "inf", "huge"])
    values = {
        "normal": lambda: random.normal(size=shape),
        "small integers": lambda: random.integers(-1, 5, shape).astype(float),
        "zeros": lambda: np.zeros(shape),
        "nan": lambda: np.where(random.random(shape) < 0.3, np.nan, 1.0),
        "inf": lambda: np.where(random.random(shape) < 0.3, np.inf, -1.0),
        "huge": lambda: random.normal(size=shape) * 1e30,
    }[content]()
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            array = np.asarray(values).astype(kind)
        except (ValueError, TypeError):
            array = np.asarray(values)
    layout = draw.choice(["plain", "plain", "plain", "transposed", "strided", "read-only", "list", "masked", "fortran"])
    if layout == "transposed":
        array = array.T
    elif layout == "strided" and array.ndim:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif layout == "read-only":
        array.flags.writeable = False
    elif layout == "list":
        return array.tolist()
    elif layout == "masked":
        return np.ma.masked_array(array, mask=np.zeros(array.shape, bool))
    elif layout == "fortran":
        return np.asfortranarray(array)
    return array


SCALARS = [
    None, True, False, -1, 0, 1, 2, 3, 5, 2**31, 2**32 + 3, 2**63, 2**64, -(2**63), 10**30, 0.0, 0.5, 1.0, 1.9, -0.5, 1e30, 1e308,
    float("nan"), float("inf"), float("-inf"), b"bytes", (), [], {}, [[]], [None], [[1, 2], [3]], {"a": 1}, object, len, 1j,
    np.int64(3), np.float32(0.5), np.bool_(True), np.datetime64("2020-01-01"), slice(0, 2), ..., range(3), {1, 2}, ("a", "b"), ["a", "b"],
]  # fmt: skip


def anything(draw, pool, *, size=False):
    if size:
        return draw.choice(ABSURD_SIZES)
    kind = draw.choice(["scalar", "scalar", "array", "array", "word", "pool", "text"])
    if kind == "scalar":
        return copy.copy(draw.choice(SCALARS))
    if kind == "array":
        return small_arrays(draw)
    if kind == "word":
        return draw.choice(WORDS)
    if kind == "pool" and pool:
        return draw.choice(pool)
    return "".join(chr(draw.choice([65, 97, 32, 10, 0, 233, 2361, 0x1F600, 0xD800])) for _ in range(draw.randrange(8)))


def likely(draw, name, pool, target):
    """An argument of the kind the parameter's name asks for, mostly of a shape that fits the target."""
    width = next(
        (getattr(target, n) for n in ("input_size", "in_features", "in_channels", "embed_dim") if hasattr(target, n)), 3
    )
    hidden = getattr(target, "hidden_size", 3)
    rows, steps = draw.choice([1, 2, 3]), draw.choice([1, 2, 4])
    layers = getattr(target, "num_layers", 1)
    if not all(isinstance(n, int) for n in (width, hidden, layers)):  # an estimator keeps whatever it was given
        width, hidden, layers = 3, 3, 1
    layers *= 2 if getattr(target, "bidirectional", False) else 1
    if name in ("input", "x") and not isinstance(target, rf.LanguageModel):
        dims = [rows, width] if isinstance(target, (rf.RNNCell, rf.GRUCell, rf.LSTMCell)) else [steps, rows, width]
        return np.asarray(np.random.default_rng(draw.randint(0, 4)).normal(size=dims), np.float32)
    if name in ("dy", "dh"):
        return np.ones((steps, rows, hidden), np.float32)
    if name in ("state", "hx", "dstate"):
        h = np.zeros((layers, rows, hidden), np.float32)
        kept = [p for p in pool if isinstance(p, (tuple, np.ndarray))]
        return draw.choice([None, h, (h, h), *kept])
    if name == "lengths" or name.endswith("_lengths"):
        return [draw.randint(0, steps) for _ in range(rows)]
    if name in ("ids", "tokens", "source", "target", "y") or (name == "x" and isinstance(target, rf.LanguageModel)):
        return np.asarray([draw.randint(0, 4) for _ in range(steps * rows)]).reshape(steps, rows)
    if name in ("model", "translator"):
        models = [
            p
            for p in pool
            if isinstance(p, (rf.LanguageModel, rf.NGram, rf.Seq2Seq, rf.RNN, rf.LSTM, rf.Linear, rf.Embedding))
        ]
        return draw.choice(models or pool)
    if name in ("corpus", "train", "valid", "text_or_corpus"):
        return draw.choice([p for p in pool if isinstance(p, (rf.Corpus, rf.ParallelCorpus))] or pool)
    if name in ("path", "source_path", "output", "folder", "checkpoint"):
        return draw.choice(["a.safetensors", "b.json", "c.png", "missing/x", ".", ""])
    if name in ("prompt", "text", "context", "prediction", "reference", "stop"):
        return draw.choice(["ab ", "a", "", "ba ab", "zzz"])
    if name in ("sentences", "sources", "targets", "predictions", "references", "lines", "sequences"):
        return draw.choice([["a b", "b"], [[1, 2], [2]], [], ["a"], [np.ones((4, 2)), np.ones((2, 2))]])
    if name in ("labels", "classes"):
        return draw.choice([["u", "v"], [0, 1], [], ["u"]])
    if name in ("series", "X"):
        return np.sin(np.arange(draw.randint(0, 60)) / 5)
    if name == "state_dict" and hasattr(target, "state_dict"):
        return target.state_dict()
    if name == "batch":
        return (np.ones((2, 3), np.int32), np.ones((2, 3), np.int32))
    if name in ("progress",):
        return False
    if name in COUNTS:
        return draw.choice([1, 1, 2, 2, 3, 4])
    if name in (
        "lr",
        "temperature",
        "max_norm",
        "clip_value",
        "clip_norm",
        "top_p",
        "alpha",
        "dropout",
        "weight_decay",
        "momentum",
    ):
        return draw.choice([0.0, 0.1, 0.5, 1.0])
    if name in ("seed",):
        return draw.choice([0, 1, 7, None])
    return draw.choice([*WORDS[:-6], True, False, None, 0, 1, 2])


def signature_of(function):
    """The signature; of a compiled method, as its documentation states it."""
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):
        line = (function.__doc__ or "()").partition("\n")[0]
        names = [
            part.partition(":")[0].strip()
            for part in re.sub(r"\[[^]]*\]", "", line).partition("(")[2].rpartition(")")[0].split(",")
        ]
        wanted = [n.partition("=")[0].strip() for n in names if n and n != "self"]
        return inspect.Signature(
            [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in wanted if n.isidentifier()]
        )


def arguments(draw, function, pool, target):
    """Positional and keyword arguments: required ones nearly always, options now and then."""
    signature = signature_of(function)
    absurd = draw.randint(0, 3) == 0  # a quarter of the calls have absurd arguments, the others mostly valid ones
    positional, keywords = [], {}

    def value(name):
        strange = draw.randint(0, 3 if absurd else 40) == 0
        size = name in COUNTS
        return anything(draw, pool, size=size) if strange else likely(draw, name, pool, target)

    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += [value("fraction") for _ in range(draw.randint(0, 3))]
        elif parameter.kind is parameter.VAR_KEYWORD:
            if draw.randint(0, 9) == 0:
                keywords[draw.choice(["proj_size", "bias", "seed", "lr", "nonsense"])] = anything(draw, pool)
        elif parameter.default is parameter.empty:
            if absurd and draw.randint(0, 19) == 0:
                continue
            if parameter.kind is parameter.KEYWORD_ONLY:
                keywords[name] = value(name)
            else:
                positional.append(value(name))
        elif draw.randint(0, 3) == 0:
            keywords[name] = value(name)
    if getattr(function, "__name__", "") == "fit" and "epochs" in signature.parameters:
        keywords.setdefault("epochs", 1)
        keywords["progress"] = False
        for optional in ("on_epoch", "callbacks", "run"):
            if draw.randint(0, 9):
                keywords.pop(optional, None)
    return positional, keywords


def objects(draw):
    """A few of the library's objects, small enough to compute with in microseconds."""
    width, hidden, random = draw.randint(1, 4), draw.randint(1, 4), draw.randint(0, 3)
    corpus = rf.Corpus.from_text("ab ba abba " * 6)
    pairs = rf.ParallelCorpus.from_pairs([("a b", "b a"), ("b", "a"), ("a a b", "b a a")])
    every = {
        "lstm": lambda: rf.LSTM(width, hidden, seed=random, batch_first=draw.random() < 0.5),
        "gru": lambda: rf.GRU(
            width, hidden, num_layers=2, bidirectional=draw.random() < 0.5, reset_after=draw.random() < 0.5, seed=random
        ),
        "rnn": lambda: rf.RNN(width, hidden, seed=random, recompute=draw.choice([None, "sqrt"])),
        "bf16": lambda: rf.LSTM(width, hidden, seed=random, weights="bf16"),
        "cell": lambda: draw.choice([rf.LSTMCell, rf.GRUCell, rf.RNNCell])(width, hidden, seed=random),
        "linear": lambda: rf.Linear(width, hidden, bias=draw.random() < 0.5, seed=random),
        "norm": lambda: rf.LayerNorm(width, elementwise_affine=draw.random() < 0.8, bias=draw.random() < 0.5),
        "rms": lambda: rf.RMSNorm(width, elementwise_affine=draw.random() < 0.8),
        "scan": lambda: draw.choice([rf.MinGRU, rf.MinLSTM, rf.SRU, rf.QRNN])(
            width, hidden, num_layers=draw.randint(1, 2), bidirectional=draw.random() < 0.5, seed=random
        ),
        "window": lambda: rf.QRNN(width, hidden, window=2, bidirectional=draw.random() < 0.5, seed=random),
        "residual": lambda: rf.LanguageModel(
            corpus.vocab, cell=draw.choice(["mingru", "lstm"]), embedding_size=4, hidden_size=4, num_layers=2, seed=random,
            residual=draw.random() < 0.5, norm=draw.choice(["rms", "layer", None]),
        ),
        "window model": lambda: rf.LanguageModel(
            corpus.vocab, cell="qrnn", window=2, embedding_size=4, hidden_size=4, num_layers=2, seed=random, norm=draw.choice(["rms", None])
        ),
        "embedding": lambda: rf.Embedding(5, width, seed=random),
        "conv": lambda: rf.Conv1d(width, hidden, draw.randint(1, 3), padding=draw.choice([0, 1, "same", "causal"])),
        "strided": lambda: rf.Conv1d(2 * width, 2 * hidden, 2, stride=2, groups=2, padding=(1, 0)),
        "batch norm": lambda: rf.BatchNorm1d(width, affine=draw.random() < 0.8),
        "attention pool": lambda: rf.AttentionPool(width, seed=random),
        "attention": lambda: rf.SelfAttention(2 * width, draw.choice([1, 2]), causal=draw.random() < 0.5),
        "chain": lambda: rf.Sequential(rf.GRU(width, hidden, seed=random), rf.Tanh(), rf.Linear(hidden, 2, seed=random)),
        "loss": lambda: draw.choice(
            [
                rf.losses.CrossEntropyLoss(label_smoothing=0.1), rf.losses.HuberLoss(), rf.losses.QuantileLoss([0.5]),
                rf.losses.BCEWithLogitsLoss(), rf.losses.CTCLoss(zero_infinity=True),
            ]
        ),
        "stream": lambda: rf.GRU(width, hidden, seed=0).stream(draw.randint(1, 2)),
        "model": lambda: rf.LanguageModel(
            corpus.vocab, cell=draw.choice(["rnn", "gru", "lstm", "sru"]), embedding_size=draw.choice([0, 3]),
            hidden_size=4, seed=random,
        ),
        "ngram": lambda: rf.NGram(order=draw.randint(1, 3), smoothing="laplace").fit(corpus),
        "translator": lambda: rf.Seq2Seq(
            pairs.source_vocab, pairs.target_vocab, hidden_size=4, embedding_size=3, seed=random,
            attention=draw.choice(["none", "additive", "general"]), decoder=draw.choice(["d2l", "context_and_previous"]),
        ),
        "classifier": lambda: rf.SequenceClassifier(hidden_size=3, epochs=1, seed=0).fit(["ab", "ba", "b"], [0, 1, 1]),
        "forecaster": lambda: rf.Autoregressor("gru", 3, epochs=1, seed=0).fit(np.sin(np.arange(50) / 3)),
        "tagger": lambda: rf.SequenceTagger("gru", 3, epochs=1, seed=0).fit(["ab", "b"], [[0, 1], [1]]),
        "seasonal": lambda: rf.Forecaster("gru", 3, horizon=3, season=4, epochs=1, seed=0).fit(np.sin(np.arange(60) * np.pi / 2)),
        "linear_ar": lambda: rf.LinearAR(2).fit(np.sin(np.arange(50) / 3)),
        "vocab": lambda: corpus.vocab,
        "pairs": lambda: pairs,
        "history": lambda: rf.History([{"epoch": 1, "train_perplexity": 2.0, "valid_perplexity": 3.0}]),
    }  # fmt: skip
    chosen = draw.sample(sorted(every), draw.randint(2, 4))
    made = [every[name]() for name in chosen]
    layer = next((m for m in made if hasattr(m, "parameters") and m.parameters()), None)
    if layer is not None:
        made.append(draw.choice([rf.SGD, rf.Adam, rf.AdamW])(layer, lr=0.01))
    return [*made, corpus]


# Hooks, and what `fit` and the readers of files call: no user passes their arguments.
CALLED_BY_FIT = {
    "on_step", "on_epoch", "on_end", "from_parts", "predictions", "from_description", "reading", "from_config", "restore_metadata",
    "load_file_weights",
}  # fmt: skip
# What the library makes and a user only reads.
RESULTS = {
    "Translation",
    "GradientCheck",
    "GradientFlow",
    "Unrolled",
    "UnrolledStep",
    "Evaluation",
    "CorpusBleu",
    "PairEvaluation",
    "NetworkEvaluation",
    "Backtest",
    "Interval",
}


def again(thing):
    return pickle.loads(pickle.dumps(thing))


def without_arguments(function, *values):
    def get():
        return function(*values)

    return get


def inherited(thing, name):
    """Whether the method is Python's own, of object or an abstract collection."""
    owner = next(base for base in type(thing).__mro__ if name in vars(base))
    return not owner.__module__.startswith("rnnfast")


def targets(pool):
    """Every function and class of the package, and every method and property of the pool's objects, by name."""
    for name in rf.__all__:
        if name not in SKIP | RESULTS:
            yield f"rf.{name}", getattr(rf, name), None
    yield "rf.distributed.Ranks", rf.distributed.Ranks, None
    for thing in pool:
        if inspect.isfunction(thing):
            yield "backward", thing, None
        if not type(thing).__module__.startswith("rnnfast") or type(thing).__name__ == "Picture":
            continue
        for name in dir(type(thing)):
            if (name.startswith("_") and name not in PRIVATE_BUT_PUBLIC) or name in CALLED_BY_FIT:
                continue
            member = inspect.getattr_static(type(thing), name)
            if isinstance(member, property):
                yield f"{type(thing).__name__}.{name}", without_arguments(getattr, thing, name), thing
            elif (
                not inherited(thing, name)
                and callable(getattr(thing, name, None))
                and not inspect.isclass(getattr(thing, name))
            ):
                yield f"{type(thing).__name__}.{name}", getattr(thing, name), thing
        yield f"pickle({type(thing).__name__})", without_arguments(again, thing), thing


def numbers(value, depth=0):
    """The floating-point arrays and numbers in ``value``."""
    if isinstance(value, np.ma.MaskedArray):
        value = value.data
    if isinstance(value, (float, np.floating)):
        yield np.asarray(value)
    elif isinstance(value, np.ndarray):
        if value.dtype.kind in "fc":
            yield value
    elif depth < 3:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            for part in value[:50]:
                yield from numbers(part, depth + 1)


def tame(values):
    """Whether every number is finite and so small that sums and products of a few stay finite in float32."""
    return all(np.isfinite(a).all() and (np.abs(a) <= 1e4).all() for v in values for a in numbers(v))


# What may be infinite or NaN by definition: the logarithm of an impossible event, its perplexity, a forecast without a past.
MAY_BE_INFINITE = re.compile(
    r"Autoregressor.predict|Forecaster|LinearAR.predict|log_prob|surprisal|evaluate|NGram|nll|bleu|History|loss_curve|Evaluation|GradientFlow|step_limit|score|Translation|schedule|fit|get_params"
)


class Fault(AssertionError):
    """A call broke a promise."""


def call(name, function, positional, keywords, pool):
    try:
        result = function(*positional, **keywords)
        if inspect.isgenerator(result) or (hasattr(result, "__next__") and not hasattr(result, "shape")):
            result = [item for item, _ in zip(result, range(20))]
    except REFUSALS as error:
        text = str(error)
        named = any(
            isinstance(v, str) and ("\n" in v or "\r" in v) for v in [*positional, *keywords.values()]
        )  # the caller's own line ends
        if not text or LEAKS.search(text.replace("\n", " ") if named else text) or len(text) > 600:
            raise Fault(f"{name}: the message is {text!r}") from error
        return None
    except KeyError:
        if not name.endswith(("__getitem__", "__setitem__")):
            raise
        return None
    except ALSO as error:
        if LEAKS.search(str(error)):
            raise Fault(f"{name}: the message is {str(error)!r}") from error
        return None
    held = [p.state_dict() for p in pool if hasattr(p, "state_dict")]
    if not MAY_BE_INFINITE.search(name) and tame([*positional, *keywords.values(), held]):
        for array in numbers(result):
            if not np.isfinite(array).all():
                raise Fault(f"{name}: finite arguments, result {array!r}")
    return result


def shown(value):
    try:
        text = repr(value).replace("\n", " ")
    except Exception as error:
        text = f"<a {type(value).__name__} whose repr raises {type(error).__name__}>"
    return text if len(text) < 300 else text[:300] + "..."


def no_answer(number, frame):
    raise Fault("no answer")


class Fuzzer:
    def __init__(self, calls, log, *, patience, keep_going):
        self.calls, self.log, self.patience, self.keep_going = calls, log, patience, keep_going
        self.done, self.outcomes, self.faults = 0, Counter(), {}

    def example(self, draw):
        pool = objects(draw)
        for _ in range(draw.randint(4, 16)):
            choices = list(targets(pool))
            name, function, target = draw.choice(choices)
            positional, keywords = arguments(draw, function, pool, target)
            line = f"{name}({', '.join([*map(shown, positional), *(f'{k}={shown(v)}' for k, v in keywords.items())])})"
            os.pwrite(self.log, (line.encode("utf-8", "backslashreplace")[:4000]).ljust(4000) + b"\n", 0)
            signal.alarm(self.patience)  # ends an endless loop in Python; one in C++ ends the process
            faulthandler.dump_traceback_later(2 * self.patience, exit=True)
            self.done += 1
            try:
                result = call(name, function, positional, keywords, pool)
            except Exception as error:
                frames = traceback.extract_tb(error.__traceback__)
                place = next(
                    (
                        f"{f.filename.rpartition('/')[2]}:{f.lineno}"
                        for f in reversed(frames)
                        if "rnnfast/" in f.filename
                    ),
                    "",
                )
                key = (name, type(error).__name__, place, re.sub(r"[\d.]+|'[^']*'", "#", str(error))[:80])
                if key not in self.faults:
                    self.faults[key] = f"{line}\n    {type(error).__name__} at {place}: {str(error)[:400]}"
                if not self.keep_going:
                    raise
                result = None
            self.outcomes[name] += 1
            parts = result if isinstance(result, tuple) else (result,)
            if len(pool) < 14:
                pool += [
                    p for p in (result, *parts) if p is not None and not isinstance(p, (str, int, float, bool, dict))
                ][:2]

    def run(self, number):
        batch = 0
        while self.done < self.calls:

            @seed(number * 100_003 + batch)
            @settings(
                max_examples=200,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(st.randoms(use_true_random=True))
            def examples(draw):
                if self.done >= self.calls:
                    return
                np.random.seed(0)  # noqa: NPY002 of layers without a seed, so that an example does the same when it is run again
                with tempfile.TemporaryDirectory() as folder:
                    os.chdir(folder)
                    try:
                        self.example(draw)
                    finally:
                        os.chdir("/")

            examples()
            batch += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000, help="how many calls (default 100000)")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other calls")
    parser.add_argument("--log", default="boundary-calls.txt", help="file whose only line names the running call")
    parser.add_argument("--patience", type=int, default=600, help="seconds without an answer that count as a hang")
    parser.add_argument(
        "--keep-going", action="store_true", help="list every kind of fault at the end instead of stopping at the first"
    )
    options = parser.parse_args()
    log = os.dup2(
        os.open(os.path.abspath(options.log), os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644), 500
    )  # no call may name it
    faulthandler.enable()
    rf.set_num_threads(2)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    fuzzer = Fuzzer(options.calls, log, patience=options.patience, keep_going=options.keep_going)
    signal.signal(signal.SIGALRM, no_answer)
    with contextlib.redirect_stdout(io.StringIO()):
        fuzzer.run(options.seed)
    signal.alarm(0)
    faulthandler.cancel_dump_traceback_later()
    for fault in fuzzer.faults.values():
        print(fault)
    print(f"{fuzzer.done} calls of {len(fuzzer.outcomes)} functions and methods, {len(fuzzer.faults)} kinds of fault")
    return 1 if fuzzer.faults else 0


if __name__ == "__main__":
    sys.exit(main())
