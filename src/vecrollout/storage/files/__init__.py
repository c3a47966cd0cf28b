"""Files of a trace: their names, where they lie, and the journal of each writer."""
