"""A training run as one page: self-contained HTML, and the pictures in it as files."""

from fastggn.apps.report.notes import SampleNotes
from fastggn.apps.report.writing import check_report, make_pictures, report

__all__ = ["SampleNotes", "check_report", "make_pictures", "report"]
