"""Let a policy act in environments until there is enough data."""
