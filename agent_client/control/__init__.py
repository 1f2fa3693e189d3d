"""How people on the machine ask the running daemon: a local socket, one question a connection."""
