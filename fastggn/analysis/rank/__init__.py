"""Ranks of the Jacobian P(W): bounds, principles, certificates, designs (Shen 2018)."""

from fastggn.analysis.rank.analysis import rank_analysis
from fastggn.analysis.rank.report import RankReport

__all__ = ["RankReport", "rank_analysis"]
