"""Exact clones of any network: what is copied, how it is widened, how it is verified, and which copies are there."""
