"""Data as users hold it: trajectories, transitions, batches of columns."""
