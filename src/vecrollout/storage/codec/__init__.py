"""Trajectories as Arrow record batches, and back."""
