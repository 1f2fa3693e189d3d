"""The hub's commands and the agent's jobs, as they are, in a world of virtual time: seeded faults, checked promises.

`python -m tests.simulation SEED` replays one seed and tells what happened.
"""
