"""Own: run an encoder of the user's own as if it were minBERT."""
