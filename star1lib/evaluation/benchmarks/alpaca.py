"""Harmless Alpaca instructions: a check that ordinary requests are still answered."""

from star1lib.evaluation.benchmarks.common import Benchmark, from_sources, grade_benign

BENCHMARK = Benchmark(name="Alpaca-benign", kind="over_refusal", load=from_sources("Alpaca-benign"), grade=grade_benign)
