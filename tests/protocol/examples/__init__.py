"""One example of each message, with every field set: what the golden files hold."""
