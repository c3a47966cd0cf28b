"""The pictures of the documentation: `python -m figures` writes them to docs/images."""
