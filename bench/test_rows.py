"""The rows under pytest-benchmark: both sides of each pair, one group a row.

The table of ratios comes from ``python -m bench``, which lets the two sides take turns.
"""

import pytest

from bench.core import FULL, SMOKE, Absent
from bench.rows import ROWS

PAIRS = [row for row in ROWS if row.build is not None]
OTHERS = [row for row in ROWS if row.measure is not None]
SIZES = [pytest.param(SMOKE, marks=pytest.mark.smoke), pytest.param(FULL, marks=pytest.mark.full)]


@pytest.fixture(scope="module")
def built():
    """The pair of the row before, so that its two sides share one."""
    kept = {}

    def pair(row, size):
        if (row.key, size) not in kept:
            kept.clear()
            kept[row.key, size] = row.build(size)
        return kept[row.key, size]

    return pair


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("row", PAIRS, ids=lambda row: row.key)
@pytest.mark.parametrize("side", ["ours", "peer"])
def test_pair(benchmark, built, row, size, side):
    try:
        pair = built(row, size)
    except Absent as reason:
        pytest.skip(f"not available: {reason}")
    competitor = getattr(pair, side)
    benchmark.group = f"{row.key} ({size})"
    benchmark.extra_info.update(label=competitor.label, note=pair.note)
    benchmark.pedantic(
        competitor.result,
        rounds=1 if size == SMOKE else competitor.max_calls or 5,
        warmup_rounds=int(competitor.warm),
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("row", OTHERS, ids=lambda row: row.key)
def test_other(benchmark, row, size):
    benchmark.group = f"{row.key} ({size})"
    try:
        outcome = benchmark.pedantic(row.measure, args=(size,), rounds=1)
    except Absent as reason:
        pytest.skip(f"not available: {reason}")
    benchmark.extra_info.update(value=outcome.value, unit=row.unit, note=outcome.note)
