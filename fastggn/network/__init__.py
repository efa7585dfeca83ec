"""Networks: layers, activations, losses, the forward sweep."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, ["activations", "losses"])
