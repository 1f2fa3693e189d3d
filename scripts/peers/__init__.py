"""Servers that the bench compares the hub with."""
