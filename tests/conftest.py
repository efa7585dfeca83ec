"""Settings of the whole test run."""

import os

# JAX reads these once, when it is first imported.
os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
