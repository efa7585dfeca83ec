"""Training: the loop, its methods, step control, regularisation, checkpoints."""
