"""Search: settings that are found by trial."""
