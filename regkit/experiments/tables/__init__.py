"""Tables: what an ablation came to, and how it is written."""
