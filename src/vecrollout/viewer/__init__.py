"""A viewer of traces in the browser: a server on this machine, for this machine."""

# First, as it says which extra is missing.
from vecrollout.viewer.extra import NEEDED as NEEDED
from vecrollout.viewer.serving import serve

__all__ = ["serve"]
