"""Figures of result objects, drawn with matplotlib (the extra ``plot``)."""
