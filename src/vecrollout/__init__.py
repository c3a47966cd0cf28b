"""Records what happens in vectorized reinforcement-learning environments, exactly and cheaply."""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from vecrollout import errors
from vecrollout._version import __version__ as __version__
from vecrollout.data.batch import TrajectoryBatch as TrajectoryBatch
from vecrollout.data.flattening import flatten_trajectories, flatten_trajectories_with_rew
from vecrollout.data.sampling.normalization import Moments, Normalization
from vecrollout.data.sampling.transitions import NStepTransitions
from vecrollout.data.sampling.windows import Windows
from vecrollout.data.stitching import stitch
from vecrollout.data.trajectory import Episode, Sink, Trajectory, TrajectoryWithRew
from vecrollout.data.transitions import Transitions, TransitionsMinimal, TransitionsWithRew, collate_transitions
from vecrollout.data.trees import DictObs, TupleObs

if TYPE_CHECKING:
    from vecrollout.buffer.options import RecordOptions
    from vecrollout.collecting.policy import policy_to_callable
    from vecrollout.collecting.rollout import generate_trajectories, generate_transitions, rollout
    from vecrollout.collecting.stop import make_min_episodes, make_min_timesteps, make_sample_until
    from vecrollout.data.stats import discounted_sum, rollout_stats
    from vecrollout.recording.callback import TraceCallback
    from vecrollout.recording.inner import CopyingWrapper, RolloutInfoWrapper, unwrap_traj
    from vecrollout.recording.record_traces import record_traces
    from vecrollout.recording.sb3 import BufferingWrapper
    from vecrollout.recording.single import BufferingEnvWrapper
    from vecrollout.recording.traces import TraceRecordingWrapper
    from vecrollout.recording.vector import VectorBufferingWrapper
    from vecrollout.storage.dataset import TraceDataset, open_traces
    from vecrollout.storage.playback import scan_recorded_traces
    from vecrollout.storage.reading.repair import RepairReport, repair_traces
    from vecrollout.storage.reading.verify import TraceReport, verify_traces
    from vecrollout.storage.writing.writer import TraceWriter


__all__ = [
    "BufferingEnvWrapper",
    "BufferingWrapper",
    "CopyingWrapper",
    "DictObs",
    "Episode",
    "Moments",
    "NStepTransitions",
    "Normalization",
    "RecordOptions",
    "RepairReport",
    "RolloutInfoWrapper",
    "Sink",
    "TraceCallback",
    "TraceDataset",
    "TraceRecordingWrapper",
    "TraceReport",
    "TraceWriter",
    "Trajectory",
    "TrajectoryBatch",
    "TrajectoryWithRew",
    "Transitions",
    "TransitionsMinimal",
    "TransitionsWithRew",
    "TupleObs",
    "VectorBufferingWrapper",
    "Windows",
    "collate_transitions",
    "discounted_sum",
    "errors",
    "flatten_trajectories",
    "flatten_trajectories_with_rew",
    "generate_trajectories",
    "generate_transitions",
    "make_min_episodes",
    "make_min_timesteps",
    "make_sample_until",
    "open_traces",
    "policy_to_callable",
    "record_traces",
    "repair_traces",
    "rollout",
    "rollout_stats",
    "scan_recorded_traces",
    "stitch",
    "unwrap_traj",
    "verify_traces",
]

# Names whose modules load Stable-Baselines3 (and with it torch) or Gymnasium: loaded when they are first asked for.
_LATE = {
    "BufferingEnvWrapper": "vecrollout.recording.single",
    "BufferingWrapper": "vecrollout.recording.sb3",
    "CopyingWrapper": "vecrollout.recording.inner",
    "RecordOptions": "vecrollout.buffer.options",
    "RepairReport": "vecrollout.storage.reading.repair",
    "RolloutInfoWrapper": "vecrollout.recording.inner",
    "TraceCallback": "vecrollout.recording.callback",
    "TraceDataset": "vecrollout.storage.dataset",
    "TraceRecordingWrapper": "vecrollout.recording.traces",
    "TraceReport": "vecrollout.storage.reading.verify",
    "TraceWriter": "vecrollout.storage.writing.writer",
    "VectorBufferingWrapper": "vecrollout.recording.vector",
    "discounted_sum": "vecrollout.data.stats",
    "generate_trajectories": "vecrollout.collecting.rollout",
    "generate_transitions": "vecrollout.collecting.rollout",
    "make_min_episodes": "vecrollout.collecting.stop",
    "make_min_timesteps": "vecrollout.collecting.stop",
    "make_sample_until": "vecrollout.collecting.stop",
    "open_traces": "vecrollout.storage.dataset",
    "policy_to_callable": "vecrollout.collecting.policy",
    "record_traces": "vecrollout.recording.record_traces",
    "repair_traces": "vecrollout.storage.reading.repair",
    "rollout": "vecrollout.collecting.rollout",
    "rollout_stats": "vecrollout.data.stats",
    "scan_recorded_traces": "vecrollout.storage.playback",
    "unwrap_traj": "vecrollout.recording.inner",
    "verify_traces": "vecrollout.storage.reading.verify",
}

if importlib.util.find_spec("pyarrow") is None:
    # `from vecrollout import *` is not to ask for an extra; by its name each of these still does.
    _NEEDING_IT = (
        "vecrollout.storage",
        *(f"vecrollout.recording.{module}" for module in ("callback", "record_traces", "traces")),
    )
    __all__ = [name for name in __all__ if not _LATE.get(name, "").startswith(_NEEDING_IT)]


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATE[name]), name)


def __dir__() -> list[str]:
    return __all__
