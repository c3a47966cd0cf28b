"""Writing traces: the thread that encodes and the files that it writes."""
