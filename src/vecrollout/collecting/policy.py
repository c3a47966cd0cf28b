"""Policies of all kinds as functions."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from vecrollout._typing import Array
from vecrollout.collecting.masks import ActionMasks, takes_masks
from vecrollout.errors import ArgumentTypeError, OptionError, PolicyError, SpaceMismatchError
from vecrollout.recording.batching import Batching
from vecrollout.recording.environments import AnyEnv, spaces_of

PolicyCallable: TypeAlias = Callable[
    [Any, tuple[Array, ...] | None, npt.NDArray[np.bool_] | None], tuple[Any, tuple[Array, ...] | None]
]
"""`(observations, states, episode_starts) -> (actions, states)`.

Observations are what the environments returned: an array of shape `(E, *obs_shape)`, or a plain dict or tuple of such
arrays. States are the policy's own memory: None at first, then the states that it returned last. Episode starts have
shape `(E,)`, bool, and say whether each observation is the first of an episode; use them to reset recurrent state.
Actions have shape `(E, *act_shape)`.
"""

AnyPolicy: TypeAlias = BaseAlgorithm | BasePolicy | PolicyCallable | None
"""An SB3 algorithm or policy, a function, or None for random actions."""


def policy_to_callable(
    policy: AnyPolicy,
    venv: AnyEnv,
    deterministic_policy: bool = False,
    rng: np.random.Generator | None = None,
) -> PolicyCallable:
    """Make a function from observations to actions out of a policy of any kind.

    Args:
        policy: An SB3 algorithm or policy, also a recurrent one of sb3-contrib, or one that acts under the masks of the
            environments' method `action_masks()`; a function, which is returned as it is; or None for actions sampled
            from the action space.
        venv: The environments to act in: an SB3 `VecEnv`, a Gymnasium `VectorEnv`, or a single environment, which
            counts as a vector of one.
        deterministic_policy: Whether an SB3 algorithm or policy takes its most likely action instead of sampling one.
            Random actions ignore it.
        rng: Source of random actions. A generator spawned from it samples from a copy of the action space, so neither
            `rng` nor the action space changes its own stream. None: sample from `venv.action_space` itself (of a
            `VectorEnv`, `single_action_space`).

    Returns:
        The function, `(observations, states, episode_starts) -> (actions, states)`.

    Raises:
        PolicyError: If `policy` is of another kind, or a function that takes other arguments.
        OptionError: If `deterministic_policy` is True and `policy` is a function.
        ArgumentTypeError: If `rng` cannot spawn generators.
        SpaceMismatchError: If an algorithm was made for other spaces than those of `venv`.

    Source:
        `imitation.data.rollout.policy_to_callable` (imitation 1.0.1), which samples random actions from
        `venv.action_space`, and for Dict observations takes the number of keys for the number of environments.
    """
    return callable_of(policy, venv, deterministic_policy, rng, ActionMasks(venv))


def callable_of(
    policy: AnyPolicy, venv: AnyEnv, deterministic_policy: bool, rng: np.random.Generator | None, masks: ActionMasks
) -> PolicyCallable:
    """`policy_to_callable`, with the masks that a policy fetches before it acts."""
    check_policy(policy, deterministic_policy)
    observations, actions = spaces_of(venv)
    if policy is None:
        return _random_policy(observations, actions if rng is None else _own_space(actions, rng))
    if isinstance(policy, BaseAlgorithm):
        _check_spaces(policy, observations, actions)
    if isinstance(policy, BaseAlgorithm | BasePolicy):
        return _predicting_policy(policy, deterministic_policy, masks if takes_masks(policy) else None)
    return policy


def check_policy(policy: AnyPolicy, deterministic_policy: bool) -> None:
    """Refuse what cannot act as a policy, whichever the environments."""
    # Before `callable`: SB3's policies are torch modules, and calling one does not give an action.
    if policy is None or isinstance(policy, BaseAlgorithm | BasePolicy):
        return
    if not callable(policy):
        raise PolicyError(
            "Policy must be None, a Stable-Baselines3 algorithm or policy, or a callable "
            f"(observations, states, episode_starts) -> (actions, states), got {type(policy)} instead"
        )
    if deterministic_policy:
        raise OptionError(
            "Cannot set deterministic_policy=True when policy is a callable: it decides by itself, and the argument "
            "is ignored."
        )
    _check_signature(policy)


def _check_signature(policy: Callable[..., Any]) -> None:
    """Refuse a function that cannot be called with observations, states and episode starts."""
    try:
        signature = inspect.signature(policy)
    except (TypeError, ValueError):  # a function in C may not have one
        return
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        raise PolicyError(
            "policy: expected a function (observations, states, episode_starts) -> (actions, states), got one that "
            f"takes {signature}; wrap it: lambda observations, states, episode_starts: (actions, None)"
        ) from error


def _random_policy(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> PolicyCallable:
    batches, actions = Batching(observation_space), Batching(action_space)

    def act(observations: Any, states: Any, episode_starts: Any) -> tuple[Any, None]:
        return actions.of([action_space.sample() for _ in range(batches.size(observations))]), None

    return act


def _own_space(space: gym.Space[Any], rng: np.random.Generator) -> gym.Space[Any]:
    """A copy of the space that samples by a generator of its own."""
    try:
        (child,) = rng.spawn(1)
    except (AttributeError, TypeError) as error:
        raise ArgumentTypeError(
            f"rng: expected a generator that can be spawned from, as np.random.default_rng(seed) makes it, got {rng!r}"
        ) from error
    space = copy.deepcopy(space)
    space.seed(int(child.integers(2**31)))
    return space


def _predicting_policy(
    policy: BaseAlgorithm | BasePolicy, deterministic: bool, masks: ActionMasks | None
) -> PolicyCallable:
    def act(
        observations: Any, states: tuple[Array, ...] | None, episode_starts: npt.NDArray[np.bool_] | None
    ) -> tuple[Array, tuple[Array, ...] | None]:
        masking: dict[str, Any] = {} if masks is None else {"action_masks": masks.fetch()}
        return policy.predict(
            observations, state=states, episode_start=episode_starts, deterministic=deterministic, **masking
        )

    return act


def _check_spaces(algorithm: BaseAlgorithm, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
    """Check that an algorithm was made for the environments' spaces."""
    if algorithm.observation_space != observation_space:
        transposed = _transposed_images("obs", algorithm.observation_space, observation_space)
        cure = ""
        if transposed:
            cure = (
                ". The images' channels are in another order:\n"
                + "".join(f"  {line}\n" for line in transposed)
                + "SB3 trains in an environment with a wrapper that moves them (VecTransposeImage). Act in that one: "
                "rollout(expert, expert.get_env(), ...) in the place of rollout(expert, venv, ...)"
            )
        raise SpaceMismatchError(
            f"Observation spaces do not match: {algorithm.observation_space} != {observation_space}{cure}"
        )
    if algorithm.action_space != action_space:
        raise SpaceMismatchError(f"Action spaces do not match: {algorithm.action_space} != {action_space}")


def _transposed_images(where: str, policys: gym.Space[Any] | None, venvs: gym.Space[Any]) -> list[str]:
    """A line for each image whose channels stand first in one of the spaces, and last in the other."""
    if isinstance(policys, spaces.Dict) and isinstance(venvs, spaces.Dict):
        common = [key for key in policys if key in venvs.spaces]
        return [line for key in common for line in _transposed_images(f"{where}[{key!r}]", policys[key], venvs[key])]
    expected, got = getattr(policys, "shape", None), venvs.shape
    if expected is None or got is None or len(expected) != 3 or len(got) != 3 or expected == got:
        return []
    if expected == (got[2], *got[:2]):
        orders = "channels-first", "channels-last"
    elif got == (expected[2], *expected[:2]):
        orders = "channels-last", "channels-first"
    else:
        return []
    return [f"{where}: the policy expects {orders[0]} {expected}, the environments return {orders[1]} {got}"]
