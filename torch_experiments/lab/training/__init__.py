"""One run of continual training: its configuration, steps, measurements and checkpoints."""
