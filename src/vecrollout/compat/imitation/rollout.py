"""`imitation.data.rollout` (imitation 1.0.1): collect trajectories, and compute statistics of them.

The functions are those of `vecrollout` with the same names, which documents them. They take trajectories of
imitation too, and return objects of the classes of `types`. Without a policy, `generate_trajectories`,
`generate_transitions` and `rollout` sample random actions from `venv.action_space`, as in imitation; their `rng` only
shuffles.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from vecrollout.collecting import rollout as collection
from vecrollout.collecting.policy import AnyPolicy, PolicyCallable, policy_to_callable
from vecrollout.collecting.stop import make_min_episodes, make_min_timesteps, make_sample_until
from vecrollout.compat.imitation._classes import TrajectoryWithRew
from vecrollout.compat.imitation._joined import adopt
from vecrollout.compat.imitation.types import stack_maybe_dictobs
from vecrollout.data import flattening, stats
from vecrollout.data.array_tree import ArrayTree
from vecrollout.data.stats import discounted_sum
from vecrollout.data.trees import wrap
from vecrollout.errors import MissingTerminalObservationError, ProtocolError
from vecrollout.recording import inner

__all__ = [
    "AnyPolicy",
    "GenTrajTerminationFn",
    "PolicyCallable",
    "TrajectoryAccumulator",
    "discounted_sum",
    "flatten_trajectories",
    "flatten_trajectories_with_rew",
    "generate_trajectories",
    "generate_transitions",
    "make_min_episodes",
    "make_min_timesteps",
    "make_sample_until",
    "policy_to_callable",
    "rollout",
    "rollout_stats",
    "unwrap_traj",
]

GenTrajTerminationFn: TypeAlias = Callable[[Sequence[TrajectoryWithRew]], bool]
"""A condition that takes the trajectories collected so far, and returns whether they are enough."""

R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


def _of_trajectories(function: Callable[..., R]) -> Callable[..., R]:
    """The function with trajectories of imitation as arguments too, and with the classes of `types` as results."""

    @functools.wraps(function)
    def wrapped(trajectories: Iterable[Any], *args: Any, **kwargs: Any) -> R:
        return adopt(function([adopt(each) for each in trajectories], *args, **kwargs))

    return wrapped


flatten_trajectories = _of_trajectories(flattening.flatten_trajectories)
flatten_trajectories_with_rew = _of_trajectories(flattening.flatten_trajectories_with_rew)
rollout_stats = _of_trajectories(stats.rollout_stats)


def _collecting(function: F) -> F:
    """The function with random actions from `venv.action_space`, not from `rng`, and results of the classes of `types`.

    The action space ignores `deterministic_policy`, as in imitation.
    """

    @functools.wraps(function)
    def wrapped(policy: AnyPolicy, venv: VecEnv, *args: Any, **kwargs: Any) -> Any:
        if policy is None:
            policy = policy_to_callable(None, venv)
            kwargs.pop("deterministic_policy", None)  # a function would refuse it
        return adopt(function(policy, venv, *args, **kwargs))

    difference = "Random actions come from `venv.action_space`, and `rng` only shuffles the trajectories."
    wrapped.__doc__ = f"{difference} Otherwise:\n\n    {function.__doc__}"
    return wrapped  # type: ignore[return-value]  # the arguments are the same


generate_trajectories = _collecting(collection.generate_trajectories)
generate_transitions = _collecting(collection.generate_transitions)
rollout = _collecting(collection.rollout)


@functools.wraps(inner.unwrap_traj)
def unwrap_traj(traj: TrajectoryWithRew) -> TrajectoryWithRew:  # noqa: D103  # documented where it is wrapped
    return adopt(inner.unwrap_traj(adopt(traj)))


class TrajectoryAccumulator:
    """Builds trajectories from single steps. A key tells trajectories apart that run at the same time.

    The first step of a trajectory has only `obs`. Every further step has the fields of a `TrajectoryWithRew`, with the
    observation after the action. Arrays are copied on entry. `BufferingWrapper` does the same for all environments at
    once, and much faster.
    """

    def __init__(self) -> None:
        self.partial_trajectories: defaultdict[Hashable, list[Mapping[str, Any]]] = defaultdict(list)
        """The steps so far of each unfinished trajectory."""

    def add_step(self, step_dict: Mapping[str, Any], key: Hashable = None) -> None:
        """Add a step to the trajectory of a key. If the key has none, a new trajectory begins.

        Args:
            step_dict: Value by field name (`obs`, `acts`, `rews`, `infos`), without a dimension for steps.
            key: Key of the trajectory.
        """
        self.partial_trajectories[key].append({name: _copied(value) for name, value in step_dict.items()})

    def finish_trajectory(self, key: Hashable, terminal: bool) -> TrajectoryWithRew:
        """Take out the trajectory of a key. The next step of that key begins another one.

        Args:
            key: Key of the trajectory.
            terminal: Whether the episode ended with the last step. If that step's info names the time limit
                (`"TimeLimit.truncated"`), the trajectory is `truncated`.

        Returns:
            The trajectory.

        Raises:
            ProtocolError: If the key has no trajectory.
        """
        if key not in self.partial_trajectories:
            raise ProtocolError(f"expected a trajectory begun by add_step(..., key={key!r}), got none")
        steps = self.partial_trajectories.pop(key)
        fields: dict[str, list[Any]] = defaultdict(list)
        for step in steps:
            for name, value in step.items():
                fields[name].append(value)
        truncated = terminal and bool(steps[-1].get("infos", {}).get("TimeLimit.truncated", False))
        stacked: dict[str, Any] = {name: stack_maybe_dictobs(values) for name, values in fields.items()}
        return TrajectoryWithRew(**stacked, terminal=terminal, truncated=truncated)

    def add_steps_and_auto_finish(
        self, acts: Any, obs: Any, rews: Any, dones: Any, infos: Sequence[dict[str, Any]]
    ) -> list[TrajectoryWithRew]:
        """Add a step of a vector environment to the trajectories, whose keys are the environments' indices.

        Args:
            acts: Actions, shape `(E, *act_shape)`.
            obs: Observations that the step returned, shape `(E, *obs_shape)`, an array, `DictObs` or plain dict. If
                an episode ended, the row of its environment is the next episode's first observation.
            rews: Rewards, shape `(E,)`.
            dones: Whether the episodes ended, shape `(E,)`, bool.
            infos: E info dicts, with `"terminal_observation"` if the episode ended.

        Returns:
            The trajectories that the step finished, by environment index. The next ones of these environments begin.

        Raises:
            ProtocolError: If an environment's trajectory was not begun with `add_step({"obs": obs}, key=index)`.
            MissingTerminalObservationError: If an episode ended and its info has no `"terminal_observation"`.
        """
        observations = wrap(adopt(obs))
        for env in range(len(observations)):
            steps = self.partial_trajectories.get(env)
            if not steps or set(steps[0]) != {"obs"}:
                raise ProtocolError(f'environment {env}: expected add_step({{"obs": first_obs}}, key={env}) first')
            if dones[env] and "terminal_observation" not in infos[env]:
                raise MissingTerminalObservationError(
                    f"environment {env}: expected the episode's last observation in "
                    f'infos[{env}]["terminal_observation"], got none'
                )
        finished = []
        for env, (act, ob, rew, done, info) in enumerate(zip(acts, observations, rews, dones, infos, strict=True)):
            last = wrap(adopt(info["terminal_observation"])) if done else ob
            self.add_step({"acts": act, "rews": rew, "obs": last, "infos": info}, env)
            if done:
                finished.append(self.finish_trajectory(env, terminal=True))
                self.add_step({"obs": ob}, env)
        return finished


def _copied(value: Any) -> Any:
    value = adopt(value)
    if isinstance(value, ArrayTree):
        return value.map_arrays(np.array)
    return value.copy() if isinstance(value, np.ndarray | dict) else value
