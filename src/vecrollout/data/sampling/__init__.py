"""Random access to the steps of trajectories: transitions, windows, n-step returns, statistics."""
