"""Distributed: several processes that train one model."""
