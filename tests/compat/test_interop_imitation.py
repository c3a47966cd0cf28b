"""Our objects as the installed imitation's, and back."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import pytest

from vecrollout import DictObs, Trajectory, TrajectoryWithRew, Transitions, TransitionsMinimal, TransitionsWithRew
from vecrollout.errors import MissingDependencyError, OptionError, StructureError
from vecrollout.interop.imitation import from_imitation, to_imitation

STEPS = 3


def infos() -> Any:
    return np.array([{"step": t, "TimeLimit.truncated": t == STEPS - 1} for t in range(STEPS)])


def ours(obs: str, *, infos: Any) -> dict[str, Any]:
    """One object of each class, with new arrays."""

    def observations(count: int) -> Any:
        array = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
        return array if obs == "array" else DictObs({"a": array, "b": np.arange(count)})

    acts, rews = np.arange(STEPS), np.arange(STEPS, dtype=np.float32)
    dones = np.array([False] * (STEPS - 1) + [True])
    # What the infos say is how it ended; without infos nobody can tell that it was not termination.
    ended = {"truncated": dones} if infos is not None else {}
    step_infos = np.array([{}] * STEPS) if infos is None else infos
    path: dict[str, Any] = {"obs": observations(STEPS + 1), "acts": acts, "infos": infos, "terminal": True}
    path |= {"truncated": True} if infos is not None else {}
    steps: dict[str, Any] = {"obs": observations(STEPS), "acts": acts, "infos": step_infos}
    return {
        "Trajectory": Trajectory(**path),
        "TrajectoryWithRew": TrajectoryWithRew(**path, rews=rews),
        "TransitionsMinimal": TransitionsMinimal(**steps),
        "Transitions": Transitions(**steps, next_obs=observations(STEPS), dones=dones, **ended),
        "TransitionsWithRew": TransitionsWithRew(
            **steps, next_obs=observations(STEPS), dones=dones, rews=rews, **ended
        ),
    }


NAMES = ["Trajectory", "TrajectoryWithRew", "TransitionsMinimal", "Transitions", "TransitionsWithRew"]


def arrays(x: Any) -> list[np.ndarray]:
    values = [getattr(x, each.name) for each in dataclasses.fields(x)]
    leaves = [leaf for value in values for leaf in (value.values() if hasattr(value, "values") else [value])]
    return [leaf for leaf in leaves if isinstance(leaf, np.ndarray)]


@pytest.mark.usefixtures("imitation_installed")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("obs", ["array", "dict"])
@pytest.mark.parametrize("kept_infos", [True, False])
def test_there_and_back(name: str, obs: str, kept_infos: bool) -> None:
    from imitation.data import types

    mine = ours(obs, infos=infos() if kept_infos else None)[name]
    theirs = to_imitation(mine)
    assert type(theirs) is getattr(types, name)
    for field in dataclasses.fields(theirs):
        value, expected = getattr(theirs, field.name), getattr(mine, field.name)
        if isinstance(value, types.DictObs):
            value, expected = value.unwrap(), expected.unwrap()
        np.testing.assert_equal(value, expected)
    back = from_imitation(theirs)
    assert type(back) is type(mine)
    assert back == mine


@pytest.mark.usefixtures("imitation_installed")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("obs", ["array", "dict"])
def test_our_arrays_are_shared_and_stay_writable(name: str, obs: str) -> None:
    mine = ours(obs, infos=infos())[name]
    theirs = to_imitation(mine)
    assert all(array.flags.writeable for array in arrays(mine))
    assert not any(array.flags.writeable for array in arrays(theirs))
    assert all(any(np.shares_memory(a, b) for b in arrays(mine)) for a in arrays(theirs))


@pytest.mark.usefixtures("imitation_installed")
def test_sequences() -> None:
    trajectories = [ours("array", infos=infos())[name] for name in ("TrajectoryWithRew", "Trajectory")]
    for given in (trajectories, tuple(trajectories)):
        converted = to_imitation(given)
        assert [type(each).__name__ for each in converted] == ["TrajectoryWithRew", "Trajectory"]
        assert from_imitation(converted) == trajectories
    assert to_imitation([]) == []


@pytest.mark.usefixtures("imitation_installed")
def test_single_dict_observations() -> None:
    obs = DictObs({"a": np.arange(3)})
    assert to_imitation(obs).unwrap().keys() == {"a"}
    assert from_imitation(to_imitation(obs)) == obs


@pytest.mark.usefixtures("imitation_installed")
def test_flags_come_from_the_infos() -> None:
    from imitation.data import types

    dones = np.array([True, False, True])
    said = [{"TimeLimit.truncated": True}, {"TimeLimit.truncated": True}, {"TimeLimit.truncated": False}]
    obs = np.zeros((3, 1))
    taken = from_imitation(types.Transitions(obs=obs, acts=obs, infos=np.array(said), next_obs=obs, dones=dones))
    assert taken.truncated.tolist() == [True, False, False]
    assert taken.terminated.tolist() == [False, False, True]
    for terminal in (True, False):
        path = types.Trajectory(obs=np.zeros((2, 1)), acts=np.zeros(1), infos=np.array(said[:1]), terminal=terminal)
        assert (from_imitation(path).terminated, from_imitation(path).truncated) == (False, terminal)


@pytest.mark.usefixtures("imitation_installed")
@pytest.mark.parametrize("obs", [(np.zeros(3), np.zeros(3)), {"a": np.zeros(3), "b": {"c": np.zeros(3)}}])
def test_what_imitation_cannot_hold_is_refused(obs: Any) -> None:
    with pytest.raises(StructureError, match="imitation supports no"):
        to_imitation(Trajectory(obs=obs, acts=np.zeros(2), infos=None, terminal=True))


@pytest.mark.usefixtures("imitation_installed")
@pytest.mark.parametrize("convert", [to_imitation, from_imitation])
@pytest.mark.parametrize("other", [3, "text", None, [1]])
def test_other_objects_are_refused(convert: Any, other: Any) -> None:
    with pytest.raises(OptionError, match="x: expected"):
        convert(other)


@pytest.mark.usefixtures("imitation_installed")
def test_imitation_takes_what_it_is_given() -> None:
    from imitation.algorithms.base import make_data_loader

    for name in ("TrajectoryWithRew", "Transitions"):
        mine = ours("array", infos=infos())[name]
        given = to_imitation([mine] if name == "TrajectoryWithRew" else mine)
        (batch,) = make_data_loader(given, batch_size=STEPS, data_loader_kwargs={"shuffle": False})
        assert batch["acts"].tolist() == list(range(STEPS))


@pytest.mark.parametrize("convert", [to_imitation, from_imitation])
def test_without_imitation_the_error_says_what_to_install(convert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imitation.data.types", None)
    with pytest.raises(MissingDependencyError, match=r"pip install imitation==1\.0\.1"):
        convert([])
