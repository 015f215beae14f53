"""The runs behind `RESULTS.md`, grids of runs, and where they take place."""
