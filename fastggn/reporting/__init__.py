"""A training run as one page: self-contained HTML, and the pictures in it as files."""

from fastggn.reporting.notes import SampleNotes
from fastggn.reporting.writing import check_report, make_pictures, report

__all__ = ["SampleNotes", "check_report", "make_pictures", "report"]
