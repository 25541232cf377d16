"""Real networks from other people's packages give the outputs of the programs that they come from."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").exists():
    pytest.skip("benchmarks are not part of this copy", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks import gallery, gallery_steps  # noqa: E402


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the packages
@pytest.mark.parametrize("name", gallery.GALLERY)
def test_a_network_of_the_gallery_gives_the_outputs_of_its_program(name):
    try:
        entry = gallery.GALLERY[name]()
    except ImportError as error:
        pytest.skip(str(error))
    same = gallery.agreement(entry)
    assert same == 1 if entry.exact else same < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the packages
def test_steps_of_the_gallery_s_networks_agree_with_onnx_runtime():
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    if not shutil.which("c++"):
        pytest.skip("no C++ compiler on the PATH")
    if len(list(gallery_steps.rows())) == 2:
        pytest.skip("no package of a network that streams is installed")
