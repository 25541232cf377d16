"""The program that every rank of the MPI tests runs: ``train FOLDER``, or ``fault KIND RANK CHECKPOINT``."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys

import numpy as np

import rnnfast as rf

IDS = np.random.default_rng(0).integers(0, 40, 1500)
WORDS = ["all", "be", "convenient", "do", "expound", "for"]


def pairs():
    random = np.random.default_rng(1)
    sentence = lambda: " ".join(random.choice(WORDS, random.integers(1, 7)))  # noqa: E731
    return rf.ParallelCorpus.from_pairs([(sentence(), sentence()) for _ in range(50)])


def language_model():
    return rf.LanguageModel(40, cell="lstm", embedding_size=8, hidden_size=20, num_layers=2, dropout=0.3, seed=1)


def fit_language_model(ranks, model=None, **options):
    model = language_model() if model is None else model
    options = {"epochs": 2, "batch_size": 8, "num_steps": 7, "keep_best": True, "progress": False, **options}
    history = rf.fit(model, IDS[:1200], IDS[1200:], distributed=ranks, **options)
    return model, history


def fit_translator(ranks):
    data = pairs()
    model = rf.Seq2Seq(
        data.source_vocab, data.target_vocab, embedding_size=6, hidden_size=10, attention="additive", dropout=0.2, teacher_forcing=0.5,
        seed=0,
    )  # fmt: skip
    return model, rf.fit(model, data, data, epochs=2, batch_size=16, distributed=ranks, progress=False)


def digest(model):
    return hashlib.sha256(b"".join(value.tobytes() for value in model.state_dict().values())).hexdigest()


def results(ranks):
    """What must not depend on the number of ranks."""
    found = {}
    for name, fitted in (("language model", fit_language_model), ("translator", fit_translator)):
        model, history = fitted(ranks)
        found[name] = [digest(model), history[-1]["train_perplexity"], history[-1]["valid_perplexity"]]
    found["evaluation"] = rf.evaluate(language_model(), IDS, parts=6, distributed=ranks).as_dict()
    return found


def fault(kind, ranks, model):
    """Makes the 9th loss of a rank fail."""
    calls, loss = [0], model.loss

    def failing(*arguments):
        calls[0] += 1
        if calls[0] == 9 and kind in ("SIGKILL", "SIGSTOP"):
            os.kill(os.getpid(), getattr(signal, kind))
        if calls[0] == 9 and kind == "raise":
            raise OSError("the text has gone")
        nll, state = loss(*arguments)
        return (float("nan") if calls[0] == 9 and kind == "nan" else nll), state

    model.loss = failing
    if kind == "disk full":

        def save(*_, **__):
            raise OSError(28, "No space left on device")

        model.save = save


def main(task, *arguments):
    ranks = rf.distributed.MPI(shards=4, timeout=3)
    if task == "train":
        found = results(ranks)
        rounded = rf.distributed.MPI(shards=4, compress="bf16")
        found["compressed"] = digest(fit_language_model(rounded, epochs=1)[0])
        try:  # the first rank is told of a signal that only the last one received
            if ranks.rank == ranks.size - 1:
                signal_at(9)
            fit_language_model(ranks, checkpoint=arguments[0])
        except rf.train.Interrupted as end:
            found["interrupted"] = str(end)
        if ranks.leads:
            print(json.dumps(found), flush=True)
        return
    kind, rank, checkpoint = arguments
    model = language_model()
    if ranks.rank == int(rank):
        fault(kind, ranks, model)
        if kind == "text":
            IDS[7] = (IDS[7] + 1) % 40
    fit_language_model(ranks, model, checkpoint=checkpoint, checkpoint_every=0.0)


def signal_at(step):
    calls, loss = [0], rf.LanguageModel.loss

    def counting(self, *arguments):
        calls[0] += 1
        if calls[0] == step:
            signal.raise_signal(signal.SIGTERM)
        return loss(self, *arguments)

    rf.LanguageModel.loss = counting


if __name__ == "__main__":
    main(*sys.argv[1:])
