"""Images: where they come from, how they are kept, and how a batch of them is drawn."""
