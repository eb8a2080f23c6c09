"""Data: turn files into tasks."""
