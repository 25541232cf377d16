"""Models that know nothing of rnnfast train to PyTorch's losses after the one line that accelerates them."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").exists():
    pytest.skip("benchmarks are not part of this copy", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks import torch_outside  # noqa: E402

import rnnfast.torch as rft  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")
MODELS = {
    "forecaster": (lambda: torch_outside.forecasting(size=16, rows=8, past=10, future=4), 3e-3),
    "tagger": (lambda: torch_outside.tagging(size=16, rows=6, steps=6), 3e-3),
    "word model": (lambda: torch_outside.language(words=50, size=16, rows=6, steps=10), 1e-2),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_written_without_rnnfast_trains_to_pytorch_s_losses(name):
    make, lr = MODELS[name]
    torch.manual_seed(0)
    model, batches = make()
    fast = rft.accelerate(copy.deepcopy(model))
    assert "on torch" not in str(rft.report(fast)), rft.report(fast)
    theirs = torch_outside.trainer(model, batches, lr)
    ours = torch_outside.trainer(fast, make()[1], lr)
    pairs = [(float(theirs()), float(ours())) for _ in range(100)]
    assert max(abs(a - b) for a, b in pairs) < 1e-4
    assert sum(b for _, b in pairs[-10:]) < 0.9 * sum(b for _, b in pairs[:10]), "it has not learned"
