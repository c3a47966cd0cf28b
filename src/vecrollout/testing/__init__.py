"""Tools of the package's own tests, for tests of other environments, wrappers and sinks.

- `vecrollout.testing`: a table of spaces, deterministic counting environments, and the trajectories that a recorder
must
  record from them.
- `vecrollout.testing.conformance`: a test suite that a recorder inherits, and `vecrollout.testing.vector_conformance`,
  the same for recorders of Gymnasium's environments. Both need pytest.
- `vecrollout.testing.strategies`: Hypothesis strategies. They need hypothesis.

The rest of the package does not import this module.
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
