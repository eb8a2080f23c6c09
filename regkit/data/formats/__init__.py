"""Formats: read what people keep texts and labels in, whatever its ending says."""
