"""Compares rnnfast with other frameworks on the same work, in one interleaved run: ``python -m benchmarks``."""
