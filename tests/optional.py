"""What the pages show of optional packages runs where these are installed."""

import importlib.util

# A package, and what shows that a block or a command needs it.
SIGNS = {
    "torch": ("torch", ".pt"),
    "onnx": (".onnx",),
    "onnxruntime": (".onnx", "onnxruntime"),
    "sklearn": ("sklearn",),
}


def absent(text):
    """Return the names of packages that a text needs and that are not installed."""
    return [
        name
        for name, signs in SIGNS.items()
        if any(sign in text for sign in signs) and importlib.util.find_spec(name) is None
    ]
