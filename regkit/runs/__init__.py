"""Runs: a run's folder, what is written there as training goes, and how a run goes on."""
