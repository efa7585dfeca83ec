"""Models as people use them: files, and exchange with other packages."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, ["interchange"])
