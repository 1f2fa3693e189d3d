"""Jobs: verified, written down, run once, reported until the hub holds the result; in a process of their own."""
