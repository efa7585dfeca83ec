"""Settings of the benchmark runs: ``pytest bench -n 0 -m smoke`` or ``-m full``."""

import os

import pytest

# JAX reads these once, when it is first imported.
os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def pytest_configure(config):
    config.addinivalue_line("markers", "full: the sizes of the target table; minutes")


@pytest.fixture(autouse=True)
def threaded_blas():
    from bench.peers import blas_threads

    with blas_threads():
        yield
