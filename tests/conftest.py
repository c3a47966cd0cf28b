"""Settings of the whole suite."""

from hypothesis import settings

# No time limit an example: a busy machine must not fail a test. All else as Hypothesis has it, which on a CI machine
# means the same examples in every run.
settings.register_profile("vecrollout", settings.default, deadline=None)
settings.load_profile("vecrollout")
