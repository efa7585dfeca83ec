"""The files from which a run can be resumed."""
