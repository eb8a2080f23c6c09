"""Tasks: what is learned from which examples."""
