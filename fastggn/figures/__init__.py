"""Figures: drawn from arrays and plain results with matplotlib."""
