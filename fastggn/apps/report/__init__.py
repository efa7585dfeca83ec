"""A training run as one page: self-contained HTML, and the pictures in it as files."""

from fastggn.apps.report.writing import check_report, make_pictures, report

__all__ = ["check_report", "make_pictures", "report"]
