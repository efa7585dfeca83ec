"""Figures: drawn from arrays and plain results with matplotlib.

Each public function that draws returns a ``matplotlib.figure.Figure``, and raises an `ImportError`
that names the extra if matplotlib is absent.
"""
