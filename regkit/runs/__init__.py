"""Runs: the folder of a run, what is written there while it trains, and how a run goes on."""
