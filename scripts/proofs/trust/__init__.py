"""The lines of `prove trust`, one file each."""
