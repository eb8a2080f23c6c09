"""Data: from files to tasks."""
