"""Charts: figures as plain numbers, and how they are drawn."""
