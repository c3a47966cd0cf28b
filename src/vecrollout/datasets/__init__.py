"""Traces as sequences of trajectories."""
