"""From arrays of demonstrations and offline datasets to the fields of trajectories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.fields import as_batch, as_rewards, checked_flags, info_array, read_only, rows
from vecrollout.data.structures import Structure, same_bits
from vecrollout.errors import DtypeError, OptionError, ShapeError, StitchError


def one_episode(
    obs: Any, acts: Any, rews: Any, infos: Any, terminated: bool, truncated: bool, final_obs: Any, drop_last: bool
) -> dict[str, Any]:
    """Fields of a trajectory from the arrays of one episode; `Trajectory.from_arrays` has the arguments' meaning."""
    fields: dict[str, Any] = {"obs": as_batch("obs", obs), "acts": as_batch("acts", acts), "infos": None}
    if infos is not None:
        fields["infos"] = info_array(infos)
    if rews is not None:
        fields["rews"] = as_rewards(rews)
    steps, observations = rows("acts", fields["acts"]), rows("obs", fields["obs"])
    for name in ("infos", "rews"):
        if fields.get(name) is not None and rows(name, fields[name]) != steps:
            raise ShapeError(f"{name}: expected {steps} rows (acts has {steps} steps), got {len(fields[name])}")
    if final_obs is not None and drop_last:
        raise OptionError("final_obs, drop_last: expected one of them, got both")
    if observations not in ((steps, steps + 1) if final_obs is None else (steps,)):
        expected = f"{steps + 1} rows" if final_obs is None else f"{steps} rows beside final_obs"
        raise ShapeError(f"obs: expected {expected} (acts has {steps} steps), got {observations}")
    if final_obs is not None:
        fields["obs"] = _appended(fields["obs"], final_obs)
    elif observations == steps:
        if not drop_last:
            raise ShapeError(
                f"obs: expected {steps + 1} rows (acts has {steps} steps), got {steps}: the last action has no "
                "successor; pass final_obs= (the observation after it), or drop_last=True to leave it out"
            )
        if steps < 2:
            raise ShapeError(f"acts: expected at least 2 steps, as drop_last=True leaves one out, got {steps}")
        fields = {name: batch if name == "obs" or batch is None else batch[:-1] for name, batch in fields.items()}
        terminated = truncated = False
    terminal = bool(terminated) or bool(truncated)
    ending = {"terminal": terminal, "terminated": terminated, "truncated": truncated}
    return {**{name: None if batch is None else read_only(batch) for name, batch in fields.items()}, **ending}


def episodes(
    obs: Any, acts: Any, rews: Any, terminals: Any, timeouts: Any, next_obs: Any, infos: Any, drop_last: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and fields of each episode in flat arrays; `Trajectory.from_flat` has the arguments' meaning."""
    if next_obs is not None and drop_last:
        raise OptionError("next_obs, drop_last: expected one of them, got both")
    if next_obs is None and not drop_last:
        raise ShapeError(
            "next_obs: expected the observation after each action, got None: an episode's last action has no successor "
            "in obs; pass next_obs=, or drop_last=True to leave the last step of each episode out"
        )
    fields: dict[str, Any] = {"obs": as_batch("obs", obs), "acts": as_batch("acts", acts), "rews": as_rewards(rews)}
    fields["infos"] = None if infos is None else info_array(infos)
    following = None if next_obs is None else as_batch("next_obs", next_obs)
    total = rows("acts", fields["acts"])
    for name, batch in {**fields, "next_obs": following}.items():
        if batch is not None and rows(name, batch) != total:
            raise ShapeError(f"{name}: expected {total} rows (acts has {total} steps), got {len(batch)}")
    ends_mdp = _flags("terminals", terminals, total)
    ends_time = np.zeros(total, bool) if timeouts is None else _flags("timeouts", timeouts, total)
    if following is not None:
        _check_alike(fields["obs"], following)

    stops = {*(np.flatnonzero(ends_mdp | ends_time) + 1).tolist(), total} - {0}
    start = 0
    for number, stop in enumerate(sorted(stops)):
        part: dict[str, Any] = {name: None if batch is None else batch[start:stop] for name, batch in fields.items()}
        final = None
        if following is not None:
            if not same_bits(following[start : stop - 1], part["obs"][1:]):
                raise StitchError(
                    f"next_obs: expected next_obs[i] to be obs[i + 1] within the episode of rows [{start}, {stop}), "
                    "got another: is the end of an episode missing in terminals and timeouts?"
                )
            final = following[stop - 1]
        if final is not None or stop - start > 1:
            flags = bool(ends_mdp[stop - 1]), bool(ends_time[stop - 1])
            yield (
                number,
                one_episode(part["obs"], part["acts"], part["rews"], part["infos"], *flags, final, following is None),
            )
        start = stop


def _appended(obs: Any, final_obs: Any) -> Any:
    structure = Structure.of(obs)
    leaves = zip(
        structure.names("final_obs"), structure.flatten(obs), structure.flatten(final_obs, "final_obs"), strict=True
    )
    return structure.unflatten(_with_row(name, rows, final) for name, rows, final in leaves)


def _with_row(name: str, rows: Array, final: Any) -> Array:
    row = np.asarray(final)
    if row.shape != rows.shape[1:]:
        raise ShapeError(f"{name}: expected shape {rows.shape[1:]}, that of a row of obs, got {row.shape}")
    with np.errstate(invalid="ignore", over="ignore"):
        cast = row.astype(rows.dtype)
    # A float may lose precision, as in obs; other values must not change.
    if row.dtype != rows.dtype and not (row.dtype.kind == rows.dtype.kind == "f" or np.array_equal(cast, row)):
        raise DtypeError(f"{name}: expected what {rows.dtype}, the dtype of obs, can hold, got {row.dtype} {row}")
    return np.concatenate([rows, cast[None]])


def _check_alike(obs: Any, next_obs: Any) -> None:
    structure = Structure.of(obs)
    leaves = zip(structure.flatten(obs), structure.flatten(next_obs, "next_obs"), strict=True)
    for name, (a, b) in zip(structure.names("next_obs"), leaves, strict=True):
        if a.shape != b.shape:
            raise ShapeError(f"{name}: expected shape {a.shape} as in obs, got {b.shape}")
        if a.dtype != b.dtype:
            raise DtypeError(f"{name}: expected dtype {a.dtype} as in obs, got {b.dtype}")


def _flags(name: str, flags: Any, total: int) -> npt.NDArray[np.bool_]:
    array = np.asarray(flags)
    # Files often store flags as numbers.
    if array.dtype.kind in "iuf" and np.isin(array, (0, 1)).all():
        array = array.astype(bool)
    return checked_flags(name, array, total)
