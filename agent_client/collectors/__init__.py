"""What the agent knows of its machine: figures by the interval, and facts that seldom change."""
