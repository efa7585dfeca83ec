"""Ranks of the Jacobian P(W): bounds, principles, certificates, designs (Shen 2018)."""
