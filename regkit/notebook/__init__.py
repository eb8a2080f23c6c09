"""Notebook: train from Python, on data and plugins that are objects there."""
