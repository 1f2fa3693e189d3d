"""The machine's own word on which jobs run here: a file of root's, which no hub can change."""
