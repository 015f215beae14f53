"""Whether an optimizer keeps a network on its manifold: a verdict for each group of parameters."""
