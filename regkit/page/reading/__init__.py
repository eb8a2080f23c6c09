"""Reading: what runs and studies have left in their folders."""
