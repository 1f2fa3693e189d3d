"""The examples at the end of each command's help."""


def examples(*lines: str) -> str:
    """Return command lines as a block of Markdown."""
    return "Examples:\n\n" + "".join(f"    {line}\n" for line in lines)
