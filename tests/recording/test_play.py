"""Demonstrations by hand: `gymnasium.utils.play` steps a recorder as it steps any environment."""

from __future__ import annotations

import numpy as np
import pytest

from vecrollout import BufferingEnvWrapper
from vecrollout.testing import CountingEnv, EpisodeScript

pygame = pytest.importorskip("pygame")


class Drawn(CountingEnv):
    """A counting environment with a picture, whose window is closed after so many steps."""

    def __init__(self, closed_after: int) -> None:
        super().__init__(episodes=[EpisodeScript(3), EpisodeScript(4, "truncated")])
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 1000}
        self.render_mode = "rgb_array"
        self.steps_left = closed_after

    def step(self, action):
        self.steps_left -= 1
        if self.steps_left == 0:
            pygame.event.post(pygame.event.Event(pygame.QUIT))
        return super().step(action)

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def no_screen(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    yield
    pygame.quit()


@pytest.mark.usefixtures("no_screen")
@pytest.mark.filterwarnings("ignore")  # pygame's own, and gymnasium's about a player's environment
def test_play():
    play = pytest.importorskip("gymnasium.utils.play").play
    episodes = []
    env = BufferingEnvWrapper(Drawn(closed_after=9), sink=episodes)
    play(env, keys_to_action={"a": 1}, noop=5, fps=1000)
    # It leaves this to its caller.
    env.close()
    # It resets twice before the first step, so the script's second episode comes first.
    assert [each.obs[:, 0].tolist() for each in episodes] == [[0, 1, 2, 3, 4], [0, 1, 2, 3], [0, 1, 2]]
    assert [each.acts.tolist() for each in episodes] == [[5] * 4, [5] * 3, [5] * 2]
    assert [each.episode.ended_by for each in episodes] == ["truncated", "terminated", "closed"]
