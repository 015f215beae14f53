"""The objects of `theory` in motion: descent, optimizers, quotient dynamics, slowly changing regression."""
