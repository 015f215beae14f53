"""What figures share: style, captions that are checked, finished runs, parts drawn in several, and the registry."""
