"""What users work with: trajectories, transitions, and batches of trajectories."""
