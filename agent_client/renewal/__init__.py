"""The life of the agent's certificate: renewed in time, swapped without a gap, recovered when it ran out."""
