"""What waits on disk until the hub holds it: samples, events, and the state of jobs."""
