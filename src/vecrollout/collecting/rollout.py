"""Collect trajectories or transitions from a policy that acts in environments."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from vecrollout._typing import Info, RecordInfos
from vecrollout.buffer.options import check_options
from vecrollout.collecting.acting import Acting
from vecrollout.collecting.collection import Collection, collect
from vecrollout.collecting.policy import AnyPolicy
from vecrollout.collecting.stop import AtLeast, Collected, SampleUntil, make_min_timesteps, positive
from vecrollout.data.flattening import flatten_trajectories_with_rew
from vecrollout.data.stats import rollout_stats
from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.data.transitions import TransitionsWithRew
from vecrollout.errors import ArgumentTypeError, OptionError
from vecrollout.progress import Progress, progress_bar
from vecrollout.recording.around import recorder_around
from vecrollout.recording.environments import AnyEnv, is_vector_env
from vecrollout.recording.final_obs import MissingFinalObs
from vecrollout.recording.inner import unwrap_traj

_log = logging.getLogger(__name__)


def generate_trajectories(
    policy: AnyPolicy,
    venv: AnyEnv,
    sample_until: SampleUntil,
    rng: np.random.Generator,
    *,
    deterministic_policy: bool = False,
    exact: bool = False,
    max_steps: int | None = None,
    unfinished: Literal["keep", "drop"] = "keep",
    record_infos: RecordInfos = "all",
    record_masks: bool = False,
    record_states: bool = False,
    progress: Progress = False,
    autoreset_mode: str | Any | None = None,
    missing_final_obs: MissingFinalObs | None = None,
    final_obs_fn: Callable[[Info], Any] | None = None,
) -> list[TrajectoryWithRew]:
    """Let a policy act in environments until it has finished enough episodes.

    All environments are reset first. When `sample_until` is met, each environment still finishes its current episode.
    Episodes that begin later do not count. Stopping at once would favor short episodes, because the long ones are still
    running.

    Args:
        policy: An SB3 algorithm or policy, a function (see `policy_to_callable`), or None for random actions.
        venv: The environments: an SB3 `VecEnv`, a Gymnasium `VectorEnv` under any autoreset rule, or a single
            `gymnasium.Env`. Environments that do not reset themselves (a single environment, or a `VectorEnv` with
            autoreset disabled) are reset when their episodes end. They are not closed at the end.
        sample_until: Takes the trajectories so far and says whether they are enough: `make_min_episodes(n)`,
            `make_min_timesteps(n)`, `make_sample_until(...)`, or a function of your own. It is called after every step.
        rng: Shuffles the trajectories. If `policy` is None, it also seeds the random actions.
        deterministic_policy: Whether an SB3 algorithm or policy takes its most likely action.
        exact: Whether to return no more than `sample_until` (one of the conditions above) asks for. With
            `make_min_episodes(n)`, n trajectories of the shuffled ones are returned. With `make_min_timesteps(n)`, the
            trajectories with the first n steps are returned; the last one is cut to a fragment (not `terminal`) if it
            has more. With both conditions, the larger result is returned.
        max_steps: Number of steps of all environments together, 1 or more, after which the collection stops in any case
            (E transitions each, or fewer if a step resets an environment). Use it for episodes that may never end. The
            trajectories so far are returned, with a warning that says what is missing. None: no limit.
        unfinished: What to do with episodes that still run after `max_steps`: `"keep"` returns them as fragments (not
            `terminal`) behind the finished trajectories, by environment index; `"drop"` drops them.
        record_infos: Infos to keep: `"all"`, `"none"`, or a list of keys.
        record_masks: Whether to record the action mask before each action, which the environments' method
            `action_masks()` returns: `infos[t]["action_masks"]`, shape `(n,)`, bool. The policy itself may ignore it.
        record_states: Whether to record the state of a recurrent policy before each action. `infos[t]` has an entry
            `policy_state_i` for the i-th array of the states. An SB3 policy's arrays have shape `(n_layers, size)`. A
            function's states are arrays of shape `(E, ...)`. At an episode's first step the entries are zeros.
        progress: Whether to show a progress bar, and which one: `"tqdm"` (as True) or `"rich"`. It counts the unit of
            `sample_until` in finished episodes. It is silent if standard error is not a terminal.
        autoreset_mode: For a `VectorEnv` that does not state its autoreset rule. `VectorBufferingWrapper` describes
            this and the following two options; None stands for its default.
        missing_final_obs: What to do if a `VectorEnv` or `VecEnv` does not give an episode's last observation.
        final_obs_fn: For a `VectorEnv` that keeps last observations elsewhere.

    Returns:
        The trajectories, shuffled, because the episodes that end first are short. Their arrays are read-only.

    Raises:
        PolicyError: If `policy` is not a policy, or does not return actions and states; or if it needs action masks and
            the environments have no method `action_masks()`, such as that of sb3-contrib's `ActionMasker`.
        SpaceMismatchError: If an algorithm was made for other spaces than those of `venv`.
        ArgumentTypeError: If `venv` is not an environment, `sample_until` not a function, or `rng` not a generator.
        OptionError: If another argument is not as described, or the autoreset rule of a `VectorEnv` is not known.
        ShapeError: If observations or actions do not have the shapes of the environments' spaces.
        StructureError: If observations or actions have other keys than the spaces.
        MissingDependencyError: If the progress bar's package is not installed.

    Source:
        `imitation.data.rollout.generate_trajectories` (imitation 1.0.1): the same episodes in the same order. Ours
        passes `episode_starts` for the first observations too, and for environments that no longer count. It also
        supports Tuple observations.
    """
    _check_arguments(sample_until, rng, exact, unfinished)
    max_steps = None if max_steps is None else positive("max_steps", max_steps)
    vector_options = {
        "autoreset_mode": autoreset_mode,
        "missing_final_obs": missing_final_obs,
        "final_obs_fn": final_obs_fn,
    }
    kept: RecordInfos = [] if record_infos == "none" and (record_masks or record_states) else record_infos
    recorder = recorder_around(venv, {"record_infos": kept}, vector_options)
    acting = Acting(recorder, venv, record_masks, record_states)
    acting.use(policy, deterministic_policy, rng)
    with _bar(progress, sample_until) as show:
        collection = collect(recorder, acting, sample_until, max_steps, show)
    trajectories = list(collection.finished)
    rng.shuffle(trajectories)
    if not collection.complete:
        _warn_of_stop(collection, acting.num_envs, max_steps, unfinished)
        if unfinished == "keep":
            trajectories += collection.running
    return _demand(sample_until).exactly(trajectories) if exact else trajectories


def generate_transitions(
    policy: AnyPolicy,
    venv: AnyEnv,
    n_timesteps: int,
    rng: np.random.Generator,
    *,
    truncate: bool = True,
    **kwargs: Any,
) -> TransitionsWithRew:
    """Let a policy act in environments until it has made enough steps.

    Args:
        policy: An SB3 algorithm or policy, a function (see `policy_to_callable`), or None for random actions.
        venv: The environments, of any kind that `generate_trajectories` takes.
        n_timesteps: Number of transitions to collect, 1 or more.
        rng: Shuffles the trajectories before the transitions are taken; see `generate_trajectories`.
        truncate: Whether to return exactly `n_timesteps` transitions. False: whole episodes with at least as many.
        **kwargs: Other options of `generate_trajectories`. With `max_steps`, there can be fewer transitions.

    Returns:
        The transitions, trajectory after trajectory.

    Raises:
        ShapeError: If `max_steps` ended the collection before there was a transition to return.
        ArgumentTypeError: If an option does not exist.

    Source:
        `imitation.data.rollout.generate_transitions` (imitation 1.0.1). The errors of `generate_trajectories` apply.
    """
    check_options(kwargs, generate_transitions, generate_trajectories)
    enough = make_min_timesteps(n_timesteps)
    return flatten_trajectories_with_rew(generate_trajectories(policy, venv, enough, rng, exact=truncate, **kwargs))


def rollout(
    policy: AnyPolicy,
    venv: AnyEnv,
    sample_until: SampleUntil,
    rng: np.random.Generator,
    *,
    unwrap: bool = True,
    exclude_infos: bool = True,
    verbose: bool = True,
    exact: bool = False,
    **kwargs: Any,
) -> list[TrajectoryWithRew]:
    """Collect trajectories with the environments' raw observations and rewards, and without infos.

    Args:
        policy: An SB3 algorithm or policy, a function (see `policy_to_callable`), or None for random actions.
        venv: The environments, of any kind that `generate_trajectories` takes. For `unwrap`, wrap each single
            environment in `RolloutInfoWrapper`.
        sample_until: Takes the trajectories so far and says whether they are enough; see `generate_trajectories`.
        rng: Shuffles the trajectories; see `generate_trajectories`.
        unwrap: Whether to replace observations and rewards by those that `RolloutInfoWrapper` recorded; see
            `unwrap_traj`. Only whole episodes can be unwrapped, so unfinished ones are dropped. A Gymnasium `VectorEnv`
            cannot batch these records; pass False for it.
        exclude_infos: Whether to leave out the infos. A `sample_until` of your own still sees them.
        verbose: Whether to log `rollout_stats` of the trajectories, at level INFO.
        exact: Whether to return no more than `sample_until` asks for; see `generate_trajectories`.
        **kwargs: Other options of `generate_trajectories`.

    Returns:
        The trajectories, shuffled.

    Raises:
        OptionError: If an argument is not as described, `unwrap` is combined with `unfinished="keep"`, or `venv` is a
            Gymnasium `VectorEnv` and `unwrap` is True.
        ArgumentTypeError: If an option does not exist.
        ShapeError: If `unwrap` finds no record of `RolloutInfoWrapper`.

    Source:
        `imitation.data.rollout.rollout` (imitation 1.0.1). The errors of `generate_trajectories` apply.
    """
    check_options(kwargs, rollout, generate_trajectories)
    if unwrap and is_vector_env(venv):
        raise OptionError(
            "unwrap: expected False with a Gymnasium VectorEnv, which cannot batch the records of RolloutInfoWrapper. "
            "To collect raw observations and rewards, pass the VectorEnv without the wrappers that change them"
        )
    if unwrap and kwargs.setdefault("unfinished", "drop") == "keep":
        raise OptionError('unfinished: expected "drop", for unwrap=True can only unwrap whole episodes, got "keep"')
    extras = [name for name in ("record_masks", "record_states") if kwargs.get(name)]
    if exclude_infos and extras:
        raise OptionError(f"{extras[0]}: expected exclude_infos=False beside it, as the infos hold what it records")
    if exclude_infos and isinstance(sample_until, AtLeast):
        # Any other condition may look at the infos.
        kwargs.setdefault("record_infos", ["rollout"] if unwrap else "none")
    demand = _demand(sample_until) if exact else None
    trajectories = generate_trajectories(policy, venv, sample_until, rng, **kwargs)
    if unwrap:
        trajectories = [unwrap_traj(each) for each in trajectories]
    if exclude_infos:
        trajectories = [dataclasses.replace(each, infos=None) for each in trajectories]
    if demand is not None:
        # Not before: a cut trajectory has lost its last info, and the record in it.
        trajectories = demand.exactly(trajectories)
    if verbose and trajectories:
        _log.info("Rollout stats: %s", rollout_stats(trajectories))
    return trajectories


@contextmanager
def _bar(progress: Progress, sample_until: SampleUntil) -> Iterator[Callable[[Collected], None]]:
    """A progress bar that counts what `sample_until` asks for; where that is not known, episodes."""
    episodes, steps = (sample_until.episodes, sample_until.steps) if isinstance(sample_until, AtLeast) else (None, None)
    unit, total = ("steps", steps) if steps else ("episodes", episodes)
    with progress_bar(progress, unit, total) as show:

        def show_collected(finished: Collected) -> None:
            note = f"{len(finished)} episodes, {finished.steps} steps"
            show(finished.steps if steps else len(finished), note)

        yield show_collected


def _warn_of_stop(collection: Collection, num_envs: int, max_steps: int | None, unfinished: str) -> None:
    message = f"stopped after max_steps={max_steps}"
    if not collection.enough:
        message += ", before sample_until had enough"
    if collection.running:
        message += (
            f": the episodes of {len(collection.running)} of {num_envs} environments were left unfinished, and their "
            f"{sum(map(len, collection.running))} transitions are "
        )
        message += "returned as fragments" if unfinished == "keep" else "dropped"
    # To whoever called generate_trajectories.
    warnings.warn(message, stacklevel=3)


def _check_arguments(sample_until: SampleUntil, rng: np.random.Generator, exact: bool, unfinished: str) -> None:
    """Refuse arguments whose errors would otherwise come late, or not at all."""
    if not callable(sample_until):
        raise ArgumentTypeError(
            f"sample_until: expected a condition such as make_min_episodes(10), or a function, got {sample_until!r}"
        )
    if not hasattr(rng, "shuffle"):
        raise ArgumentTypeError(f"rng: expected a generator such as np.random.default_rng(0), got {rng!r}")
    if exact:
        _demand(sample_until)
    if unfinished not in ("keep", "drop"):
        raise OptionError(f'unfinished: expected "keep" or "drop", got {unfinished!r}')


def _demand(sample_until: SampleUntil) -> AtLeast:
    """The condition as one that can be met exactly."""
    if isinstance(sample_until, AtLeast):
        return sample_until
    raise OptionError(
        "exact: expected a condition made by make_min_episodes, make_min_timesteps or make_sample_until with it, as it "
        f"is not known how many a {type(sample_until).__name__} asks for"
    )
