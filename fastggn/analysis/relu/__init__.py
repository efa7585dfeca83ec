"""Loss surface decomposition of one-hidden-layer ReLU networks: regions and their minima."""
