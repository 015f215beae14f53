"""A zoo of architectures that people use, and what the library answers to each of them."""
