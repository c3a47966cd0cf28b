"""What the package's own tests are made of, for testing other environments, wrappers and sinks with it.

- `vecrollout.testing`: a table of spaces, deterministic counting environments, and what a recorder has to have recorded
  of them.
- `vecrollout.testing.conformance`: a suite of tests that a recorder inherits, and
  `vecrollout.testing.vector_conformance`: the same for recorders of Gymnasium's environments; they need pytest.
- `vecrollout.testing.strategies`: Hypothesis strategies; they need hypothesis.

Everything here may assert, and nothing in the package imports it.
"""

from vecrollout.testing.comparison import assert_same, leaves_of
from vecrollout.testing.counting import CountingEnv, EpisodeScript, ScriptedError
from vecrollout.testing.scenario import Recorded, Scenario
from vecrollout.testing.spaces import SPACES, VEC_ENV_SPACES, batch_of, element_of

__all__ = [
    "SPACES",
    "VEC_ENV_SPACES",
    "CountingEnv",
    "EpisodeScript",
    "Recorded",
    "Scenario",
    "ScriptedError",
    "assert_same",
    "batch_of",
    "element_of",
    "leaves_of",
]
