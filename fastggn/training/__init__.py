"""From theta0 to theta: the loop, its methods, step control, regularisation, checkpoints."""
