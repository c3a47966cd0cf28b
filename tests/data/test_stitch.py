"""Fragments of one episode, joined again."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecrollout import DictObs, Episode, Trajectory, TrajectoryWithRew, stitch
from vecrollout.errors import StitchError
from vecrollout.testing import SPACES, batch_of
from vecrollout.testing.comparison import assert_same

STEPS = 6


def whole(space: str = "box", steps: int = STEPS, start: int = 0, **changes: Any) -> TrajectoryWithRew:
    """An episode of which environment 2 was recorded from step `start` on."""
    identity = Episode(
        id=5, env_index=2, start_step=start, seed=7, reset_info={"map": np.ones(2)}, ended_by="truncated"
    )
    kept: dict[str, Any] = {
        "obs": batch_of(SPACES[space], range(start, start + steps + 1)),
        "acts": np.arange(start, start + steps),
        "infos": [{"t": t} for t in range(start, start + steps)],
        "terminal": True,
        "rews": np.arange(start, start + steps, dtype=np.float32),
        "truncated": True,
        "episode": identity,
    }
    return TrajectoryWithRew(**{**kept, **changes})


def cut(trajectory: Any, start: int, stop: int) -> Any:
    """The fragment of the steps `[start, stop)`, counted from the trajectory's first."""
    ends = stop == len(trajectory)
    columns = ("acts", "infos", "rews")
    return dataclasses.replace(
        trajectory,
        obs=trajectory.obs[start : stop + 1],
        **{
            name: getattr(trajectory, name)[start:stop]
            for name in columns
            if getattr(trajectory, name, None) is not None
        },
        terminal=trajectory.terminal and ends,
        terminated=trajectory.terminated and ends,
        truncated=trajectory.truncated and ends,
        episode=dataclasses.replace(
            trajectory.episode,
            start_step=trajectory.episode.start_step + start,
            ended_by=trajectory.episode.ended_by if ends else None,
        ),
    )


def fragments(trajectory: Any, *cuts: int) -> list[Any]:
    bounds = [0, *cuts, len(trajectory)]
    return [cut(trajectory, start, stop) for start, stop in pairwise(bounds)]


class TestJoins:
    @given(
        st.sampled_from(sorted(SPACES)), st.integers(1, 8), st.integers(0, 3), st.booleans(), st.booleans(), st.data()
    )
    def test_any_cut_in_any_order_gives_the_whole(
        self, space: str, steps: int, start: int, with_infos: bool, with_rews: bool, data: st.DataObject
    ) -> None:
        original: Any = whole(space, steps, start, **({} if with_infos else {"infos": None}))
        if not with_rews:
            original = Trajectory(**{name: value for name, value in vars(original).items() if name != "rews"})
        cuts = sorted(data.draw(st.sets(st.integers(1, max(steps - 1, 1)), max_size=steps - 1)))
        joined = stitch(data.draw(st.permutations(fragments(original, *cuts))))
        assert type(joined) is type(original)
        assert joined == original
        assert joined.episode == original.episode
        for name in ("obs", "acts", "rews"):
            assert_same(getattr(joined, name, None), getattr(original, name, None))

    def test_a_part_of_an_episode(self) -> None:
        """Neither its start nor its end has to be there."""
        parts = fragments(whole(), 1, 3, 5)
        joined = stitch(parts[1:3])
        assert joined == cut(whole(), 1, 5)
        assert (joined.terminal, joined.episode.start_step, joined.episode.ended_by) == (False, 1, None)

    def test_an_iterator_of_fragments(self) -> None:
        assert stitch(iter(fragments(whole(), 2))) == whole()

    def test_a_single_one_is_returned_as_it_is(self) -> None:
        alone = whole(episode=Episode())
        assert stitch([alone]) is alone

    def test_an_early_end_comes_along(self) -> None:
        parts = fragments(whole(terminal=False, truncated=False), 3)
        parts[1] = dataclasses.replace(parts[1], episode=dataclasses.replace(parts[1].episode, ended_by="reset_early"))
        joined = stitch(parts)
        assert (joined.terminal, joined.episode.ended_by) == (False, "reset_early")

    def test_the_fragments_stay_as_they_were(self) -> None:
        parts = fragments(whole(), 2, 4)
        joined = stitch(parts)
        for part in parts:
            for name in ("obs", "acts", "rews", "infos"):
                assert not np.shares_memory(getattr(joined, name), getattr(part, name))
        assert parts == fragments(whole(), 2, 4)

    def test_nan_where_two_meet(self) -> None:
        obs = np.full((STEPS + 1, 2), np.nan)
        joined = stitch(fragments(whole(obs=obs), 3))
        assert_same(joined.obs, obs)

    def test_a_dicts_order_does_not_matter(self) -> None:
        first, second = fragments(whole("dict"), 3)
        assert isinstance(second.obs, DictObs)
        turned = DictObs(dict(reversed(second.obs.items())))
        assert stitch([first, dataclasses.replace(second, obs=turned)]) == whole("dict")


def identified(part: Any, **changes: Any) -> Any:
    return dataclasses.replace(part, episode=dataclasses.replace(part.episode, **changes))


FIRST, SECOND, THIRD = fragments(whole(), 2, 4)
RUNNING = dataclasses.replace(FIRST, infos=None)
LOOSE = Trajectory(**{name: value for name, value in vars(SECOND).items() if name != "rews"})


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "fragments: expected at least one, got none"),
        ([FIRST, THIRD], "fragment from step 4: expected to start at step 2, .* a gap"),
        ([FIRST, FIRST], "fragment from step 0: expected to start at step 2, .* an overlap"),
        ([FIRST, cut(whole(), 1, 4)], "fragment from step 1: expected to start at step 2, .* an overlap"),
        ([whole(), SECOND], "fragment from step 2: expected to start at step 6, .* an overlap"),
        (
            [FIRST, identified(SECOND, id=6)],
            "fragment from step 2: expected episode 5 of environment 2, .* foreign .* 6",
        ),
        ([FIRST, identified(SECOND, env_index=3)], "fragment from step 2: .* episode 5 of environment 3"),
        ([FIRST, identified(SECOND, id=None)], "fragment from step 2: expected an episode.id, got None"),
        ([identified(FIRST, id=None), identified(SECOND, id=None)], "fragment from step 0: expected an episode.id"),
        ([RUNNING, SECOND], "expected a TrajectoryWithRew without infos as the first one, got .* with infos"),
        ([FIRST, LOOSE], "expected a TrajectoryWithRew with infos as the first one, got a Trajectory with infos"),
        (
            [dataclasses.replace(FIRST, terminal=True, truncated=True), SECOND],
            "fragment from step 2: expected nothing after step 1, with which the episode ended",
        ),
        ([identified(FIRST, ended_by="reset_early"), SECOND], "expected nothing after step 1"),
        ([identified(FIRST, ended_by="closed"), SECOND], "expected nothing after step 1"),
        ([FIRST, dataclasses.replace(SECOND, obs=SECOND.obs + 1)], "fragment from step 2: obs: expected its first one"),
        (
            [FIRST, dataclasses.replace(SECOND, obs=SECOND.obs.astype(np.float64))],
            r"fragment from step 2: obs: expected \('float32', \(3,\)\) .* got \('float64', \(3,\)\)",
        ),
        ([FIRST, dataclasses.replace(SECOND, acts=np.zeros((2, 1)))], "fragment from step 2: acts: expected"),
        ([FIRST, dataclasses.replace(SECOND, rews=np.zeros(2))], r"fragment from step 2: rews: .*'float32'.*'float64'"),
        ([FIRST, dataclasses.replace(SECOND, obs={"a": SECOND.obs})], r"fragment from step 2: obs: .*\{'a': "),
    ],
)
def test_what_does_not_join(parts: list[Any], message: str) -> None:
    with pytest.raises(StitchError, match=message):
        stitch(parts)
    with pytest.raises(StitchError, match=message):
        stitch(parts[::-1])
