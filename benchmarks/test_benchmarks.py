"""The same cases under pytest-benchmark: ``pytest benchmarks --benchmark-enable -k "35x32x28x256 and rnnfast"``.

All run in this process on one thread, so these are times of one program at a time; for ratios use ``python -m benchmarks``.
"""

from __future__ import annotations

import pytest

from benchmarks.cases import KINDS, all_cases
from benchmarks.cells import GATES
from benchmarks.peers import PEERS, Unsupported, load

CASES = list(all_cases(list(KINDS), list(GATES), "all"))
PAIRS = [(case, peer) for case in CASES for peer, entry in PEERS.items() if entry.supports(case)]
_loaded = {}
pytestmark = pytest.mark.filterwarnings("default")  # warnings of other frameworks are not ours to fix


def the_peer(name):
    """Loads a framework once, for all its cases."""
    if name not in _loaded:
        try:
            _loaded[name] = load(name, 1)
        except ImportError as error:
            pytest.skip(str(error))
    return _loaded[name]


@pytest.mark.parametrize(("case", "peer"), PAIRS, ids=[f"{case.name} {peer}" for case, peer in PAIRS])
def test_speed(benchmark, case, peer):
    try:
        program = the_peer(peer).prepare(case)
        program.check()
    except Unsupported as reason:
        pytest.skip(str(reason))
    benchmark.group = case.name
    with program.context():
        benchmark(program.run)
