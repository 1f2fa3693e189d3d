"""What is shown of jobs: at most once, obeying nobody but their signers, with nothing of their results lost."""
