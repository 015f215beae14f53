"""Exact mathematics of loss of plasticity: networks, partitions, manifolds, certificates."""
