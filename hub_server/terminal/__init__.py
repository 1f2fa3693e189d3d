"""What both command lines say and read alike: `jtnt-hub` and `jtnt`."""
