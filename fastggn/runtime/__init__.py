"""The machine: threads, ranks, memory, signals, files that survive a crash."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, ["errors"])
