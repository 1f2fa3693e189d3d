"""How a machine joins a fleet. Runs in a short-lived process: the daemon never imports this."""
