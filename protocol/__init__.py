"""What travels between agents, hub and browsers. No I/O; see README.md for the rules the types cannot say."""
