"""Where the parts of a hub are put together, and nowhere else: constructors, no decisions."""
