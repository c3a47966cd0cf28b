"""Recording the training of a Stable-Baselines3 algorithm."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize, VecTransposeImage

from vecrollout._typing import Array, Info, RecordInfos
from vecrollout.data.checks import directory_text
from vecrollout.errors import ProtocolError
from vecrollout.recording.sb3 import BufferingWrapper
from vecrollout.recording.writing import check_options, most_transitions, trace_writer
from vecrollout.storage.writing.writer import TraceWriter, checked_metadata

_POLICY_KEYS = ("policy_action", "policy_value", "policy_log_prob")
_TAPPED = ("reset", "step_async", "step_wait")
# By environment, when its recording ended: the algorithm's last observations, its number of steps, and the observations
# that the environment had returned. An algorithm that a callback stops never sees these.
_ended: WeakKeyDictionary[VecEnv, tuple[Any, int, Any]] = WeakKeyDictionary()


class TraceCallback(BaseCallback):
    """Writes what a Stable-Baselines3 algorithm trains on to disk: `model.learn(10_000, TraceCallback("traces"))`.

    Training goes on as without it, to the same weights. Recorded are observations, rewards and infos as the
    environments give them to the algorithm, but from below `VecNormalize`, and before images are transposed; actions
    are those that the environments executed. What the policy said stands in the infos, and so in columns of its own:

    - `policy_action`: its own action, before it was clipped or rescaled to the action space.
    - `policy_value`: its estimate of the value, a float32, where the algorithm has one at each step (PPO, A2C).
    - `policy_log_prob`: the action's log-probability, a float32, likewise.

    At the end of `learn` running episodes are written as they are (`episode.ended_by` is `"closed"`) and the trace is
    complete; each `learn` writes a trace of its own into the directory. Where `learn` goes on in the middle of episodes
    (`reset_num_timesteps=False`), `episode.start_step` says how far they had come, which environments with SB3's
    `Monitor` know; where it is not known, it is 1. If `learn` ends by an exception, the trace is completed by `close`,
    by the next `TraceCallback` of the same environments, or at the end of the process.

    Args:
        directory: Where to: a directory, which is made where it does not exist and may hold traces already, or the URL
            of an object store.
        record_infos: Which of the environments' infos to keep: `"all"`, `"none"`, or those of the named keys.
        max_transitions: How many transitions of running episodes to hold before these are written in fragments; None:
            as many as take up a gigabyte.
        verbose: As of any callback.
        **options: Of `TraceWriter`: `compression`, `max_shard_bytes`, `metadata`, `episode_metadata`, `queue_bytes`;
            `spaces` and `env_spec` in the place of the environments'.

    Raises:
        ArgumentTypeError: If `directory` is neither a path nor a URL, or an option none of these.
        OptionError: If `directory` is empty.

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
        max_transitions: int | None = None,
        verbose: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(verbose)
        directory_text(directory)  # before there is something to lose
        check_options(options)
        self._metadata = checked_metadata(options.pop("metadata", None) or {})
        self.directory = directory
        self._record_infos = record_infos
        self._max_transitions = max_transitions
        self._options = options
        self._tap: _Tap | None = None

    def close(self) -> None:
        """Stop recording, and complete the trace. Done at the end of `learn`, unless an exception ended it.

        Raises:
            TraceWriteError: If writing failed.
        """
        if self._tap is not None:
            tap, self._tap = self._tap, None
            _ended[tap.venv] = self.model._last_obs, self.model.num_timesteps, tap.obs
            tap.close()

    def _on_training_start(self) -> None:
        venv, obs = _below_normalization(self.training_env, self.model._last_obs)
        self.close()
        left_over = getattr(vars(venv).get("step_wait"), "__self__", None)
        if isinstance(left_over, _Tap):
            obs = left_over.obs  # from training that an exception ended
            left_over.close()
        seen, num_timesteps, returned = _ended.get(venv, (None, 0, None))
        if seen is not None and seen is self.model._last_obs and num_timesteps == self.num_timesteps:
            obs = returned
        spaces = venv.observation_space, venv.action_space
        about = {"algorithm": type(self.model).__name__, "seed": self.model.seed}
        metadata = {**about, **self._metadata}
        writer = trace_writer(self.directory, venv, spaces, **{**self._options, "metadata": metadata})
        most = most_transitions(spaces, venv.num_envs) if self._max_transitions is None else self._max_transitions
        try:
            self._tap = _Tap(venv, writer, self._record_infos, most)
            self._tap.begin(obs, self._start_steps(venv))
        except BaseException:
            writer.close()
            raise

    def _start_steps(self, venv: VecEnv) -> list[int]:
        """How many steps each environment's episode has had before training begins."""
        if self.locals.get("reset_num_timesteps", True) or not self.num_timesteps:
            return [0] * venv.num_envs
        if all(venv.env_is_wrapped(Monitor)):
            return [len(rews) for rews in venv.get_attr("rewards")]
        return [1] * venv.num_envs

    def _on_step(self) -> bool:
        if self._tap is None or self._tap.is_closed:
            raise ProtocolError("TraceCallback: expected to be the only one of its environments; another one records")
        self._tap.hear(_said_by_policy(self.locals, self.training_env.num_envs))
        return True

    def _on_training_end(self) -> None:
        self.close()


class _Tap:
    """Listens to a `VecEnv` without wrapping it: SB3 compares the wrappers of one environment with those of another.

    Methods of its own stand in the places of the environment's. For the recorder on top of it, it is the environment,
    whose step is over when what the policy said is known, too.
    """

    def __init__(self, venv: VecEnv, writer: TraceWriter, record_infos: RecordInfos, max_transitions: int) -> None:
        self.venv = venv
        self._writer = writer
        self._own = {name: getattr(venv, name) for name in _TAPPED}
        # What the environments returned and is not recorded yet, and what the policy said about it.
        self._returned: tuple[Any, Any, Any, list[Info]] | None = None
        self._said: Sequence[Mapping[str, Any]] = ()
        # Whether somebody else has stepped the environments since the policy was heard of last.
        self._others_step = False
        self.obs: Any = None
        """The environments' current observations."""
        self.is_closed = False
        writer.before_close(self.record)
        if not isinstance(record_infos, str):
            record_infos = [*record_infos, *_POLICY_KEYS]
        elif record_infos == "none":
            record_infos = _POLICY_KEYS
        self._recorder = BufferingWrapper(
            cast(VecEnv, self),
            error_on_premature_reset=False,
            record_infos=record_infos,
            sink=writer,
            max_transitions=max_transitions,
            on_full="hand_over",
        )

    def begin(self, obs: Any, start_steps: Sequence[int]) -> None:
        """Record from here on."""
        self.obs = obs
        self._recorder.join(obs, start_steps)
        for name, method in zip(_TAPPED, (self._on_reset, self._on_step_async, self._on_step_wait), strict=True):
            setattr(self.venv, name, method)

    def record(self, said: Sequence[Mapping[str, Any]] = ()) -> None:
        """Record the last step, if that is not done yet, with what the policy said of it, a dict an environment."""
        if self._returned is not None:
            self._said = said
            self._recorder.step_wait()

    def hear(self, said: Sequence[Mapping[str, Any]]) -> None:
        """Record the last step, with what the policy said of the step before the callback was called.

        Which one that was cannot be told where others, an evaluation for example, have stepped the environments, too.
        """
        others_step, self._others_step = self._others_step, False
        self.record(() if others_step else said)

    def close(self) -> None:
        """Leave the environments as they were, and close the writer. A second call does nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        for name in _TAPPED:
            vars(self.venv).pop(name, None)
        self._writer.close()

    # In the places of the environment's own

    def _on_reset(self, **kwargs: Any) -> Any:
        self._record_unheard()
        try:
            obs = self._own["reset"](**kwargs)
            self.obs = copy.deepcopy(obs)
            self._recorder.join(obs, [0] * self.venv.num_envs)
        except BaseException:
            self._recorder._buffer.abort()
            raise
        return obs

    def _on_step_async(self, actions: Any) -> None:
        self._record_unheard()
        self._recorder.step_async(actions)

    def _on_step_wait(self) -> Any:
        try:
            obs, rews, dones, infos = returned = self._own["step_wait"]()
        except BaseException:
            self._recorder._buffer.abort()
            raise
        self.obs = copy.deepcopy(obs)
        self._returned = self.obs, np.array(rews), np.array(dones), [dict(info) for info in infos]
        return returned

    def _record_unheard(self) -> None:
        self._others_step = self._others_step or self._returned is not None
        self.record()

    # For the recorder

    def step_async(self, actions: Any) -> None:
        """Let the environments act."""
        self._own["step_async"](actions)

    def step_wait(self) -> tuple[Any, Any, Any, list[Info]]:
        """What they returned last."""
        (obs, rews, dones, infos), self._returned = self._returned, None  # type: ignore[misc]  # `record` asked before
        for info, said in zip(infos, self._said, strict=False):
            info.update(said)
        return obs, rews, dones, infos

    def __getattr__(self, name: str) -> Any:
        return getattr(self.venv, name)


def _below_normalization(env: VecEnv, obs: Any) -> tuple[VecEnv, Any]:
    """The environment below `VecNormalize` and `VecTransposeImage`, and its current observations.

    Args:
        env: The algorithm's environment.
        obs: Its current observations, as the algorithm has them.
    """
    normalized = [each for each in _wrappers(env) if isinstance(each, VecNormalize)]
    if normalized:
        env, obs = normalized[-1].venv, normalized[-1].get_original_obs()
    while isinstance(env, VecTransposeImage):
        obs = _channels_last(env, obs)
        env = env.venv
    return env, obs


def _wrappers(env: VecEnv) -> Iterator[VecEnvWrapper]:
    while isinstance(env, VecEnvWrapper):
        yield env
        env = env.venv


def _channels_last(transposing: VecTransposeImage, obs: Any) -> Any:
    if transposing.skip:
        return obs
    if isinstance(obs, dict):
        images = transposing.image_space_keys
        return {key: each.transpose(0, 2, 3, 1) if key in images else each for key, each in obs.items()}
    return obs.transpose(0, 2, 3, 1)


def _said_by_policy(variables: Mapping[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """What the policy said at a step, a dict an environment.

    Args:
        variables: The local variables of `collect_rollouts`.
        num_envs: Number of environments, E.
    """
    # Off-policy algorithms rescale their actions to the action space; on-policy ones clip them.
    names = "buffer_actions" if "buffer_actions" in variables else "actions", "values", "log_probs"
    columns = {}
    for key, name in zip(_POLICY_KEYS, names, strict=True):
        column = _as_array(variables.get(name))
        if column.ndim and len(column) == num_envs:
            # Values come as a column of numbers.
            columns[key] = column if key == "policy_action" or column.size > num_envs else column.reshape(num_envs)
    return [{key: column[env].copy() for key, column in columns.items()} for env in range(num_envs)]


def _as_array(values: Any) -> Array:
    return np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)
