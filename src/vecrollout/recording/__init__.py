"""Listens to environments: wrappers, and the loop that lets a policy act in them."""
