"""Critical points: what kind they are, and how that is known."""

from fastggn.analysis.critical.classify import critical_point
from fastggn.analysis.critical.polishing import PolishResult, polish
from fastggn.analysis.critical.report import CriticalPointReport

__all__ = ["CriticalPointReport", "PolishResult", "critical_point", "polish"]
