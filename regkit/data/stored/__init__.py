"""Stored: hold the texts and numbers of many rows outside of Python's objects."""
