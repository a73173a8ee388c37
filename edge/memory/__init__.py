"""Memory: what there is, what a plan needs, and how fast it is read."""
