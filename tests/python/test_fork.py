"""A child that is forked while another thread computes: it computes or raises an error; it never hangs."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest

import rnnfast as rf

pytestmark = [
    pytest.mark.fault("M3"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 300, (20, 8)).astype(np.int32)


def in_child(work):
    """What ``work`` does in a forked child: "computed", the text of its RuntimeError, or "hung"."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(120)  # only a child that hangs needs it
        try:
            work()
            os.write(writer, b"computed")
        except RuntimeError as error:
            os.write(writer, str(error).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as end:
        text = end.read().decode()
    status = os.waitpid(pid, 0)[1]
    return "hung" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM else text


def outcomes(compute, work, times=4):
    """Outcomes of children that were forked while a thread calls ``compute`` over and over."""
    started, stop = threading.Event(), threading.Event()

    def loop():
        while not stop.is_set():
            compute()
            started.set()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        started.wait()
        return {in_child(work) for _ in range(times)}
    finally:
        stop.set()
        thread.join()


def same(compute):
    """``compute``'s result is that of the parent before the fork."""
    expected = compute()

    def check():
        assert np.array_equal(compute(), expected)

    return check


def language_model():
    model = rf.LanguageModel(300, hidden_size=96, embedding_size=32, seed=0)
    return lambda: model.nll(IDS[:-1], IDS[1:])[0]


def generating():
    model = rf.LanguageModel(rf.Vocab(list("abcdefgh")), hidden_size=256, embedding_size=64, seed=0)
    return lambda: np.frombuffer(rf.generate(model, "ab", length=20, seed=0).encode(), np.uint8)


def translator():
    model = rf.Seq2Seq(300, 300, hidden_size=64, embedding_size=32, attention="additive", seed=0)
    lengths = np.full(IDS.shape[1], len(IDS), np.int64)
    return lambda: model.nll(IDS, lengths, IDS)


def linear():
    layer, x = rf.Linear(256, 256, seed=0), RNG.normal(size=(256, 256)).astype(np.float32)
    return lambda: layer(x)


def convolution():
    layer, x = rf.Conv1d(64, 64, 3, seed=0), RNG.normal(size=(64, 8, 64)).astype(np.float32)
    return lambda: layer(x)


def attention():
    layer, x = rf.SelfAttention(64, 4, seed=0), RNG.normal(size=(64, 4, 64)).astype(np.float32)
    return lambda: layer(x)


def recurrent():
    layer, x = rf.LSTM(64, 128, seed=0), RNG.normal(size=(20, 8, 64)).astype(np.float32)
    return lambda: layer(x)[0]


INFERENCE = [language_model, generating, translator, linear, convolution, attention, recurrent]


@pytest.mark.parametrize("make", INFERENCE, ids=lambda f: f.__name__)
def test_a_child_forked_while_another_thread_computes_gets_the_same_result(make):
    compute = make()
    assert outcomes(compute, same(compute)) == {"computed"}


def train_lstm():
    layer, x = rf.LSTM(64, 128, seed=0), RNG.normal(size=(20, 8, 64)).astype(np.float32)

    def train():
        y, _, backward = layer.forward(x)
        return backward(y)[0]

    return layer, train


def train_model():
    model = rf.LanguageModel(300, hidden_size=96, embedding_size=32, seed=0)

    def train():
        model.loss(IDS[:-1], IDS[1:])
        model.backward()

    return model, train


def train_translator():
    model = rf.Seq2Seq(300, 300, hidden_size=64, embedding_size=32, seed=0)
    lengths = np.full(IDS.shape[1], len(IDS), np.int64)

    def train():
        model.loss(IDS, lengths, IDS)
        model.backward()

    return model, train


def train_parts():
    linear, conv, attention = rf.Linear(64, 64, seed=0), rf.Conv1d(64, 64, 3, seed=1), rf.SelfAttention(64, seed=2)
    x = RNG.normal(size=(32, 8, 64)).astype(np.float32)

    def train():
        for layer in (linear, conv, attention):
            y, backward = layer.forward(x)
            backward(y)

    class Parts:
        def zero_grad(self):
            for layer in (linear, conv, attention):
                layer.zero_grad()

    return Parts(), train


@pytest.mark.parametrize("make", [train_lstm, train_model, train_translator, train_parts], ids=lambda f: f.__name__)
def test_a_child_forked_while_another_thread_trains_can_train_once_the_gradients_are_zero(make):
    model, train = make()

    def work():
        model.zero_grad()
        train()

    assert outcomes(train, work) == {"computed"}
    for outcome in outcomes(train, train):  # gradients that the other thread was adding to are half-added
        assert outcome == "computed" or "call zero_grad() before backward()" in outcome


def test_a_child_forked_while_another_thread_steps_a_stream_can_reset_it():
    layer, x = rf.LSTM(256, 512, seed=0), np.ones(256, np.float32)  # large enough to give the GIL away in a step
    stream = layer.stream()
    first = stream(x)

    def work():
        stream.reset()
        assert np.array_equal(stream(x), first)

    assert outcomes(lambda: stream(x), work) == {"computed"}
    for outcome in outcomes(lambda: stream(x), lambda: stream(x)):
        assert outcome == "computed" or "reset() it" in outcome


def test_a_child_forked_while_another_thread_steps_an_attention_state_can_start_again():
    layer, x = rf.SelfAttention(256, 4, causal=True, seed=0), np.ones((8, 256), np.float32)
    first, held = layer.step(x)

    def work():
        assert np.array_equal(layer.step(x)[0], first)

    assert outcomes(lambda: layer.step(x, held), work) == {"computed"}
    for outcome in outcomes(lambda: layer.step(x, held), lambda: layer.step(x, held)):
        assert outcome == "computed" or "start a new one, with None" in outcome
