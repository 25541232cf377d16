"""Shards of networks and translators that one process computes together have the bits of each alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import ranks_program as program

import rnnfast as rf
from rnnfast.train.sharded import ShardedSteps


def fitted_in_shards(make, data, monkeypatch, **options):
    """Digests and losses of a model trained with its shards together, on one and on three threads, and one by one."""
    found = []
    before = rf.get_num_threads()
    together = Counter()
    known = ShardedSteps._can_run_together
    for threads, alone in ((1, False), (3, False), (1, True)):

        def can(self, batch, alone=alone):
            able = known(self, batch) and not alone
            together[able] += not alone
            return able

        monkeypatch.setattr(ShardedSteps, "_can_run_together", can)
        rf.set_num_threads(threads)
        model = make()
        history = rf.fit(model, data, shards=4, epochs=1, progress=False, **options)
        found.append(
            (program.digest(model), next(value for name, value in history[-1].items() if name.startswith("train_")))
        )
    rf.set_num_threads(before)
    assert together[True] > 0
    return found


NETWORKS = {
    "lengths, norm, dropout": lambda: rf.Sequential(
        rf.LSTM(3, 12, num_layers=2, dropout=0.3, seed=0), rf.LayerNorm(12), rf.Dropout(0.3), rf.Pool("last"),
        rf.Linear(12, 2, seed=1), seed=2,
    ),
    "two directions": lambda: rf.Sequential(
        rf.GRU(3, 9, num_layers=2, bidirectional=True, dropout=0.2, seed=0), rf.AttentionPool(18, seed=3), rf.Linear(18, 2, seed=1),
        seed=2,
    ),
    "convolution, self-attention": lambda: rf.Sequential(
        rf.Conv1d(3, 8, 3, padding=1, seed=3), rf.ReLU(), rf.SelfAttention(8, 2, seed=1), rf.RNN(8, 7, seed=0),
        rf.Dropout(0.2, variational=True), rf.Pool("mean"), rf.Linear(7, 2, seed=1), seed=2,
    ),
    "batch norm": lambda: rf.Sequential(
        rf.GRU(3, 9, seed=0), rf.BatchNorm1d(9), rf.Pool("max"), rf.Linear(9, 2, seed=1), seed=2
    ),
    "rows first, peepholes": lambda: rf.Sequential(
        rf.LSTM(3, 9, peepholes=True, batch_first=True, seed=0), rf.Pool("last"), rf.Linear(9, 2, seed=1), batch_first=True, seed=2,
    ),
    "window": lambda: rf.Sequential(rf.QRNN(3, 9, num_layers=2, window=2, seed=0), rf.Pool("last"), rf.Linear(9, 2, seed=1), seed=2),
    "scans": lambda: rf.Sequential(
        rf.MinLSTM(3, 9, seed=0), rf.QRNN(9, 9, num_layers=2, dropout=0.2, seed=0), rf.Pool("last"), rf.Linear(9, 2, seed=1), seed=2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_shards_of_networks_together_have_the_bits_of_each_alone(name, monkeypatch):
    found = fitted_in_shards(
        NETWORKS[name], program.network_data(50, 0), monkeypatch, loss="cross_entropy", batch_size=16
    )
    assert found[0] == found[1] == found[2]


def test_shards_of_a_network_with_a_prediction_a_step_have_the_bits_of_each_alone(monkeypatch):
    random = np.random.default_rng(0)
    lengths = random.integers(1, 12, 40)
    x = [random.integers(0, 20, n) for n in lengths]
    data = rf.Examples(
        x, {"a": [ids % 3 for ids in x], "b": [np.sin(ids)[:, None] for ids in x]}, weights=random.random(40) + 0.1
    )

    def make():
        layers = {
            "e": rf.Embedding(20, 6, seed=0), "r": rf.LSTM(6, 6, seed=1), "sum": (rf.Add(), "r", "e"), "a": rf.Linear(6, 3, seed=2),
            "b": (rf.Linear(6, 1, seed=3), "sum"),
        }  # fmt: skip
        return rf.Network(inputs={"ids": {"ids": 20}}, layers=layers, outputs=["a", "b"], seed=3)

    found = fitted_in_shards(make, data, monkeypatch, loss={"a": "cross_entropy", "b": "mse"}, batch_size=16)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "additive", "dropout": 0.2, "teacher_forcing": 0.5, "num_layers": 2},
        {"attention": "additive", "cell": "lstm", "readout": "all", "bidirectional": True, "output_dropout": 0.3},
        {"attention": "dot", "dropout": 0.2, "cell": "lstm"},
        {
            "attention": "general",
            "readout": "all",
            "bidirectional": True,
            "output_dropout": 0.3,
            "teacher_forcing": 0.7,
        },
        {"decoder": "context_and_previous", "dropout": 0.2, "num_layers": 2},
        {"decoder": "context_as_input", "context": "mean", "cell": "rnn"},
        {"decoder": "d2l", "bidirectional": True, "context": "max", "readout": "all"},
        {"decoder": "previous", "weights": "bf16", "cell": "lstm"},
        {"decoder": "d2l", "cell": "qrnn", "encoder_window": 2, "num_layers": 2, "dropout": 0.2},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_shards_of_translators_together_have_the_bits_of_each_alone(options, monkeypatch):
    pairs = program.pairs()

    def make():
        return rf.Seq2Seq(pairs.source_vocab, pairs.target_vocab, embedding_size=6, hidden_size=10, seed=0, **options)

    found = fitted_in_shards(make, pairs, monkeypatch, batch_size=16)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("rows", "steps", "sentence"),
    [(6, 4, "4 groups of 6 rows: expected a power of two that divides the rows"), (6, 3, "3 groups of 6 rows")],
)
def test_groups_that_cannot_be_are_refused(rows, steps, sentence):
    ids = np.zeros((5, rows), np.int32)
    with pytest.raises(ValueError, match=sentence):
        program.language_model().group_losses(ids, ids, None, range(steps))
    tied = rf.LanguageModel(40, embedding_size=8, hidden_size=8, tie_weights=True)
    with pytest.raises(ValueError, match="groups of rows with tied weights"):
        tied.group_losses(ids, ids, None, [1, 2])
    with pytest.raises(ValueError, match="expected one key or one a group"):
        tied.group_losses(ids, ids, None, [])
