"""The budget of threads, the memory at hand, the ranks, and what the package runs on."""

from fastggn.parallel.config import configuration, show_config
from fastggn.parallel.memory import available_memory
from fastggn.parallel.mpi import abort_on_error
from fastggn.parallel.threads import max_threads, one_pool, thread_count, threading_layer, threads

__all__ = [
    "abort_on_error",
    "available_memory",
    "configuration",
    "max_threads",
    "one_pool",
    "show_config",
    "thread_count",
    "threading_layer",
    "threads",
]
