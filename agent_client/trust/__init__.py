"""Whom this agent trusts: the root-signed document, and nothing else."""
