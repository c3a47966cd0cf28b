"""Reading of traces, and of damaged ones."""
