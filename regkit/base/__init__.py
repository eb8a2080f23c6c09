"""Base: errors, files and random numbers; imports nothing of regkit."""
