"""Recording the training of a Stable-Baselines3 algorithm."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Literal
from weakref import WeakKeyDictionary

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from vecrollout._typing import RecordInfos
from vecrollout.buffer.options import RecordOptions, check_options
from vecrollout.errors import ProtocolError
from vecrollout.recording.final_obs import MissingFinalObs, checked_missing
from vecrollout.recording.sb3_algorithm import below_normalization, current_obs_of, said_by_policy
from vecrollout.recording.tap import Tap
from vecrollout.recording.writing import closed_on_error, most_transitions, trace_writer
from vecrollout.storage.files.folder import place_of
from vecrollout.storage.writing.options import checked_metadata
from vecrollout.storage.writing.writer import TraceWriter

# The recorder of each environment that is being recorded.
_taps: WeakKeyDictionary[VecEnv, Tap] = WeakKeyDictionary()
# By environment, when its recording ended: the algorithm's last observations, its number of steps, and the observations
# that the environment had returned. An algorithm that a callback stops never sees these.
_ended: WeakKeyDictionary[VecEnv, tuple[Any, int, Any]] = WeakKeyDictionary()


class TraceCallback(BaseCallback):
    """Writes what a Stable-Baselines3 algorithm trains on to disk: `model.learn(10_000, TraceCallback("traces"))`.

    Training goes on as without it, to the same weights. The callback records observations, rewards and infos as the
    environments give them to the algorithm, but from below `VecNormalize`, and before images are transposed. It records
    the actions that the environments executed. Annotations (see `BufferingWrapper.annotate`) hold what the policy said:

    - `policy_action`: The policy's action, before it was clipped or rescaled to the action space.
    - `policy_value`: The policy's estimate of the value, a float32, if the algorithm has one at each step (PPO, A2C).
    - `policy_log_prob`: The action's log-probability, a float32, for the same algorithms.
    - `action_masks`: The action mask, with `record_masks=True`, if the algorithm uses masks (MaskablePPO).
    - `policy_state_0`, `policy_state_1`: The actor's hidden and cell state before the action, float32, shape
      `(n_layers, size)`, with `record_states=True`, if the algorithm is RecurrentPPO. At an episode's first step they
      are zeros.

    At the end of `learn`, running episodes are written as they are (`episode.ended_by` is `"closed"`) and the trace is
    complete. Each `learn` writes a trace of its own into the directory. If `learn` goes on in the middle of episodes
    (`reset_num_timesteps=False`), `episode.start_step` is the number of steps before, which environments with SB3's
    `Monitor` know; for other environments it is 1. If `learn` ends by an exception, the trace is completed by `close`,
    by the next `TraceCallback` of the same environments, or at the end of the process.

    Args:
        directory: Where to write: a directory, which is made if it does not exist and may hold traces already, or the
            URL of an object store.
        record_infos: The environments' infos to keep: `"all"`, `"none"`, or a list of keys.
        record_masks: Whether to record the action masks of MaskablePPO.
        record_states: Whether to record the recurrent state of RecurrentPPO.
        max_transitions: Number of transitions of running episodes after which these are written in fragments; None: as
            many as take a gigabyte.
        cast: `"space"` casts observations and actions to the dtypes of their spaces. None: they keep their dtypes, and
            are widened without loss where they vary.
        missing_final_obs: What to do if the environments do not give an episode's last observation. `BufferingWrapper`
            describes it.
        verbose: As of any callback.
        **options: Options of `TraceWriter`: `compression`, `max_shard_bytes`, `metadata`, `episode_metadata`,
            `queue_bytes`, `flush_every_s`, `mix_spaces`, `overwrite`; `spaces` and `env_spec` replace the
            environments'. With `overwrite=True`, `learn` removes earlier traces when its first observations have been
            checked.

    Raises:
        ArgumentTypeError: If `directory` is neither a path nor a URL, or an option does not exist.
        OptionError: If `directory` is empty, or an option has another value than described.

    Examples:
        >>> import tempfile
        >>> from stable_baselines3 import PPO
        >>> from vecrollout import open_traces
        >>> directory = tempfile.mkdtemp()
        >>> model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, device="cpu")
        >>> model = model.learn(64, callback=TraceCallback(directory))
        >>> traces = open_traces(directory)
        >>> sum(map(len, traces)), sorted(set(traces[0].infos[0]) & {"policy_action", "policy_value"})
        (64, ['policy_action', 'policy_value'])

    Source:
        `OnPolicyAlgorithm.collect_rollouts` and `OffPolicyAlgorithm.collect_rollouts` (Stable-Baselines3 2.2 to 2.9),
        whose local variables a callback sees after each step.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        record_infos: RecordInfos = "all",
        record_masks: bool = False,
        record_states: bool = False,
        max_transitions: int | None = None,
        cast: Literal["space"] | None = None,
        missing_final_obs: MissingFinalObs = "raise",
        verbose: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(verbose)
        self.directory = place_of(directory)
        """Where it writes: the absolute path, or the URL of an object store."""
        check_options(options, TraceCallback, TraceWriter)
        self._metadata = checked_metadata(options.pop("metadata", None) or {})
        self._recording = RecordOptions(
            # Annotations are infos.
            record_infos=[] if isinstance(record_infos, str) and record_infos == "none" else record_infos,
            max_transitions=max_transitions,
            cast=cast,
        )
        self._missing = checked_missing(missing_final_obs)
        self._says_too = record_masks, record_states
        self._options = options
        self._tap: Tap | None = None

    def close(self) -> None:
        """Stop recording, and complete the trace. `learn` does this at its end, unless an exception ended it.

        Raises:
            TraceWriteError: If writing failed.
        """
        if self._tap is not None:
            tap, self._tap = self._tap, None
            _ended[tap.venv] = current_obs_of(self.model), self.model.num_timesteps, tap.obs
            _taps.pop(tap.venv, None)
            tap.close()

    def flush(self) -> None:
        """Make every finished episode durable. Blocks until it is written.

        Raises:
            ProtocolError: If nothing is recorded now: before `learn` and after its end.
            TraceWriteError: If writing failed.
        """
        if self._tap is None:
            raise ProtocolError("flush: expected a call during `learn`; its end has completed the trace")
        self._tap.flush()

    def _on_training_start(self) -> None:
        last_obs = current_obs_of(self.model)
        venv, obs = below_normalization(self.training_env, last_obs)
        self.close()
        left_over = _taps.pop(venv, None)
        if left_over is not None:
            obs = left_over.obs  # from training that an exception ended
            left_over.close()
        seen, num_timesteps, returned = _ended.get(venv, (None, 0, None))
        if seen is not None and seen is last_obs and num_timesteps == self.num_timesteps:
            obs = returned
        spaces = venv.observation_space, venv.action_space
        about = {"algorithm": type(self.model).__name__, "seed": self.model.seed}
        metadata = {**about, **self._metadata}
        most = most_transitions(spaces, venv.num_envs)
        with trace_writer(self.directory, venv, spaces, **{**self._options, "metadata": metadata}) as writer:
            options = dataclasses.replace(
                self._recording,
                sink=writer,
                max_transitions=self._recording.max_transitions or most,
                on_full="flush",
            )
            tap = Tap(venv, writer, options, self._missing, obs, self._start_steps(venv))
        self._options.pop("overwrite", None)  # the next `learn` adds to the same traces
        with closed_on_error(tap):  # an interrupt must not leave its functions in the environment
            tap.begin()
            self._tap = _taps[venv] = tap

    def _start_steps(self, venv: VecEnv) -> list[int]:
        """The number of steps that each environment's episode has had before training begins."""
        if self.locals.get("reset_num_timesteps", True) or not self.num_timesteps:
            return [0] * venv.num_envs
        if all(venv.env_is_wrapped(Monitor)):
            return [len(rews) for rews in venv.get_attr("rewards")]
        return [1] * venv.num_envs

    def _on_step(self) -> bool:
        if self._tap is None or self._tap.is_closed:
            raise ProtocolError("TraceCallback: expected to be the only one of its environments; another one records")
        self._tap.hear(said_by_policy(self.locals, self.training_env.num_envs, *self._says_too))
        return True

    def _on_training_end(self) -> None:
        self.close()
