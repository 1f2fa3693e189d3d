"""Measuring a hub: simulated agents on the real protocol, from processes of their own, and what is made of it."""
