"""What users start: the command line, estimators, reports."""
