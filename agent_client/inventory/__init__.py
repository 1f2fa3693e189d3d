"""What the machine is made of and what is installed on it: collected in a process of its own, sent when it changed."""
