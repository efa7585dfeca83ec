"""Critical points: their kind, and how it is known."""
