"""Figures that people add: programs and Python functions named in `plugins.toml`, each run in a process of its own."""
