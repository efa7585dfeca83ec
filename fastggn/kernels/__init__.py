"""Compiled kernels: Numba only, one file a formula."""
