"""What recording costs, beside the tools that people use for it today: `python -m benchmarks`."""
