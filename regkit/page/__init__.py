"""Page: one self-contained HTML page of runs and studies."""
