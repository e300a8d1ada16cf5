"""What was the matter with a run, as values: groups of failures, where they are, and what bounded it."""
