"""The program that every rank of the MPI tests runs: ``exchange``, ``train CHECKPOINT``, ``long CHECKPOINT``, ``steps KIND [CHECKPOINT]`` or
``fault KIND RANK CHECKPOINT``."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys

import numpy as np

import rnnfast as rf
from rnnfast.train import exchange

exchange.SMALLEST = 200  # also of these small models, gradients are exchanged while backward runs
IDS = np.random.default_rng(0).integers(0, 40, 1500)
VOCABULARY = 200  # of which the text has 40: ranks exchange these rows of the embedding
EPOCHS = 12  # of a long run
WORDS = ["all", "be", "convenient", "do", "expound", "for"]


def pairs():
    random = np.random.default_rng(1)
    sentence = lambda: " ".join(random.choice(WORDS, random.integers(1, 7)))  # noqa: E731
    return rf.ParallelCorpus.from_pairs([(sentence(), sentence()) for _ in range(50)])


def language_model():
    return rf.LanguageModel(
        VOCABULARY, cell="lstm", embedding_size=8, hidden_size=20, num_layers=2, dropout=0.3, seed=1
    )


def fit_language_model(ranks, model=None, **options):
    model = language_model() if model is None else model
    options = {"epochs": 2, "batch_size": 8, "num_steps": 7, "keep_best": True, "progress": False, **options}
    history = rf.fit(model, IDS[:1200], IDS[1200:], distributed=ranks, **options)
    return model, history


def fit_translator(ranks, **options):
    data = pairs()
    model = rf.Seq2Seq(
        data.source_vocab, data.target_vocab, embedding_size=6, hidden_size=10, attention="additive", dropout=0.2, teacher_forcing=0.5,
        seed=0,
    )  # fmt: skip
    options = {"epochs": 2, "batch_size": 16, "progress": False, **options}
    return model, rf.fit(model, data, data, distributed=ranks, **options)


def network_data(count, seed):
    random = np.random.default_rng(seed)
    x = [random.standard_normal((n, 3)).astype(np.float32) for n in random.integers(1, 9, count)]
    return rf.Examples(x, [int(each.sum() > 0) for each in x], weights=random.integers(0, 3, count))


def fit_network(ranks, **options):
    layers = [rf.LSTM(3, 12, seed=0), rf.LayerNorm(12), rf.Dropout(0.3), rf.Pool("last"), rf.Linear(12, 2, seed=1)]
    model = rf.Sequential(*layers, seed=2)
    options = {"loss": "cross_entropy", "metrics": ["accuracy"], "epochs": 2, "batch_size": 12, **options}
    return model, rf.fit(model, network_data(50, 0), network_data(30, 1), distributed=ranks, progress=False, **options)


class Held(rf.Callback):
    """How much of an optimizer's state this rank holds."""

    def __init__(self, optimizer):
        self.optimizer, self.numbers = optimizer, 0

    def on_step(self, record):
        state = self.optimizer.state_dict()
        self.numbers = sum(value.size for name, value in state.items() if name.startswith(("first", "second")))


def digest(model):
    return hashlib.sha256(b"".join(value.tobytes() for value in model.state_dict().values())).hexdigest()


def fitted_estimators(ranks):
    """Digests of estimators of every kind."""
    random = np.random.default_rng(2)
    texts = ["".join(random.choice(list("abcd"), random.integers(1, 9))) for _ in range(37)]
    labels = ["a" if text.count("a") > 1 else "b" for text in texts]
    series = np.sin(np.arange(90) / 3) + 0.1 * random.standard_normal(90)
    options = {"hidden_size": 6, "epochs": 2, "batch_size": 8, "seed": 3}
    weights = random.random(37)
    made = [
        rf.SequenceClassifier(**options).fit(texts, labels, weights, distributed=ranks),
        rf.SequenceTagger(dropout=0.2, **options).fit(texts, [list(text) for text in texts], distributed=ranks),
        rf.Forecaster(horizon=3, season=6, **options).fit(series, distributed=ranks),
        rf.Autoregressor(num_steps=8, **options).fit(series, distributed=ranks),
    ]
    return [digest(each.network_) for each in made]


FITS = {"language model": fit_language_model, "translator": fit_translator, "network": fit_network}
FIFTY_STEPS = {"language model": 3, "translator": 13, "network": 10}  # epochs with so many, or a few more


def after_fifty_steps(kind, ranks, **options):
    return digest(FITS[kind](ranks, epochs=FIFTY_STEPS[kind], **options)[0])


def results(ranks):
    """What must not depend on the number of ranks."""
    found = {}
    for name, fitted in FITS.items():
        model, history = fitted(ranks)
        found[name] = [digest(model), {k: v for k, v in history[-1].items() if "second" not in k}]
    writer = rf.LanguageModel(pairs().source_vocab, cell="gru", hidden_size=8, seed=0)
    found["samples"] = rf.generate(writer, "be", length=6, num_samples=5, seed=3, distributed=ranks)
    found["estimators"] = fitted_estimators(ranks)
    found["evaluation"] = rf.evaluate(language_model(), IDS, parts=6, distributed=ranks).as_dict()
    return found


def numbers(rank):
    """More than one piece of an exchange, and not a multiple of it."""
    return np.random.default_rng(rank).standard_normal(5 * (1 << 18) + 8).astype(np.float32)


def check_of(array):
    return hashlib.sha256(array.tobytes()).hexdigest()


def fault(kind, ranks, model):
    """Makes the 9th step of a rank fail."""
    calls, backward = [0], model.backward

    def failing():
        calls[0] += 1
        if calls[0] == 9 and kind in ("SIGKILL", "SIGSTOP"):
            os.kill(os.getpid(), getattr(signal, kind))
        if calls[0] == 9 and kind == "raise":
            raise OSError("the text has gone")
        if calls[0] == 9 and kind == "nan":  # to which backward adds
            model.grads["output.bias"] = np.full(VOCABULARY, np.nan)
        backward()

    model.backward = failing
    if kind == "disk full":

        def save(*_, **__):
            raise OSError(28, "No space left on device")

        model.save = save


def main(task, *arguments):
    ranks = rf.distributed.MPI(shards=4, timeout=3, overlap=True)
    if task == "exchange":
        found = set()
        for overlap in (False, True):
            flat = numbers(ranks.rank)
            rf.distributed.MPI(shards=4, overlap=overlap).add_(flat, 0.25)
            found |= set(ranks.all(check_of(flat)))
        if ranks.leads:
            print(*found, flush=True)
        return
    if task == "train":
        found = results(ranks)
        rounded = rf.distributed.MPI(shards=4, compress="bf16")
        found["bytes"] = ranks.exchanged
        found["compressed"] = digest(fit_language_model(rounded, epochs=1)[0])
        split = rf.distributed.MPI(shards=4, split_optimizer=True)
        model = language_model()
        optimizer = rf.AdamW(model, lr=2e-3)
        held = Held(optimizer)
        fit_language_model(split, model, epochs=1, optimizer=optimizer, callbacks=[held])
        found["split"] = [digest(model), digest(optimizer)]
        found["held"] = held.numbers
        try:  # the first rank is told of a signal that only the last one received
            if ranks.rank == ranks.size - 1:
                signal_at(9)
            fit_language_model(split, checkpoint=arguments[0])
        except rf.train.Interrupted as end:
            found["interrupted"] = str(end)
        if ranks.leads:
            print(json.dumps(found), flush=True)
        return
    if task == "steps":
        for kind in FITS if arguments[0] == "all" else arguments[:1]:
            options = {"checkpoint": arguments[1], "checkpoint_every": 0.0} if len(arguments) > 1 else {}
            if options and os.path.exists(arguments[1]):
                options["resume"] = True
            elif options:
                with open(f"{arguments[1]}.{ranks.rank}", "w") as file:
                    file.write(str(os.getpid()))
            found = after_fifty_steps(kind, ranks, **options)
            if ranks.leads:
                print(found, flush=True)
        return
    if task == "long":  # rank r writes its process id to CHECKPOINT.r
        with open(f"{arguments[0]}.{ranks.rank}", "w") as file:
            file.write(str(os.getpid()))
        fit_language_model(ranks, epochs=EPOCHS, checkpoint=arguments[0], checkpoint_every=0.0)
        return
    kind, rank, checkpoint = arguments
    model = language_model()
    if ranks.rank == int(rank):
        fault(kind, ranks, model)
        if kind == "text":
            IDS[7] = (IDS[7] + 1) % 40
    fit_language_model(ranks, model, checkpoint=checkpoint, checkpoint_every=0.0)


def signal_at(step):
    calls, backward = [0], rf.LanguageModel.backward

    def counting(self):
        calls[0] += 1
        if calls[0] == step:
            signal.raise_signal(signal.SIGTERM)
        backward(self)

    rf.LanguageModel.backward = counting


if __name__ == "__main__":
    main(*sys.argv[1:])
