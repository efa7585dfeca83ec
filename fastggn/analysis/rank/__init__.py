"""Ranks of the Jacobian P(W): bounds, principles, certificates, designs (Shen 2018)."""

from fastggn.analysis.rank.analysis import rank_analysis
from fastggn.analysis.rank.bounds import Bound, Hypothesis
from fastggn.analysis.rank.design import DesignReport, check_design
from fastggn.analysis.rank.duplicates import Duplicates
from fastggn.analysis.rank.exact_fit import exact_fit
from fastggn.analysis.rank.measure import LayerRanks
from fastggn.analysis.rank.phase import RankPhase, rank_phase
from fastggn.analysis.rank.principles import Principle
from fastggn.analysis.rank.report import Certificate, RankReport
from fastggn.analysis.rank.spectrum import Rank
from fastggn.analysis.rank.sweeps import (
    RankSweep,
    RankTrace,
    rank_over_training,
    rank_over_weights,
)
from fastggn.analysis.rank.xor import XorRank, smallest_xor_ranks

__all__ = [
    "Bound",
    "Certificate",
    "DesignReport",
    "Duplicates",
    "Hypothesis",
    "LayerRanks",
    "Principle",
    "Rank",
    "RankPhase",
    "RankReport",
    "RankSweep",
    "RankTrace",
    "XorRank",
    "check_design",
    "exact_fit",
    "rank_analysis",
    "rank_over_training",
    "rank_over_weights",
    "rank_phase",
    "smallest_xor_ranks",
]
