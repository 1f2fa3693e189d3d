"""What the bench measures, one file a subject, and what they measure with."""
