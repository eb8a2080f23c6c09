"""Repeat: compute an encoder's layers at a few sizes, and on a GPU as CUDA graphs."""
