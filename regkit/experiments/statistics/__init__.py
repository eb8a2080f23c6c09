"""Statistics: what can be believed of differences between runs."""
