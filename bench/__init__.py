"""Benchmarks: every figure of the target table, measured beside its peer in one run."""
