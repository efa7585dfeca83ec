"""Critical points: their kind, and the evidence for it."""
