"""The same checks on real networks: models, cloning, scores and the experiments."""
