"""Files that nobody else may read or write, and that are never seen half-written."""
