"""One file a figure: compute or load, check the caption, draw."""
