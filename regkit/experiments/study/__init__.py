"""Study: the storage of many runs, the workers that share it, and what each run comes to."""
