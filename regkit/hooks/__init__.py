"""Hooks: the contract with plugins, and how they are found, checked and attached."""
