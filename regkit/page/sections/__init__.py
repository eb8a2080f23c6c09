"""Sections: the parts of a page."""
