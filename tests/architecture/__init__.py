"""ARCHITECTURE's rules as tests over the source's syntax trees; nothing of the product is run."""
