"""Measures of units, layers and networks: how dead, how cloned, how low in rank."""
