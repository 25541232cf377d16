from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import rnnfast as rf

# A shell starts background jobs with SIGINT ignored, and rnnfast leaves an ignored signal ignored. Tests of Ctrl-C need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TEXT = "the time traveller for so it will be convenient to speak of him was expounding a recondite matter to us.\n" * 12


@pytest.fixture
def corpus():
    return rf.Corpus.from_text(TEXT)


@pytest.fixture
def threads():
    """A function that sets the thread count; it is put back afterwards."""
    before = rf.get_num_threads()
    yield rf.set_num_threads
    rf.set_num_threads(before)


@pytest.fixture
def one_torch_thread(monkeypatch):
    """Barriers of small layers are slow on a machine that is busy. Small RNNCells train on the core too."""
    import torch

    from rnnfast.torch import modules

    monkeypatch.setattr(modules, "FEW_FOR_TRAINING", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data_folder():
    folder = os.environ.get("RNNFAST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RNNFAST_DATA names no folder with the public data sets")
    return Path(folder)
