"""The agent: one small process on every machine of the fleet. See README.md for its rooms and its files on disk."""
