"""Experiments: many runs that one question asks for, and what can be believed of their scores."""
