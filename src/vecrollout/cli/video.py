"""`vecrollout video`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import typer

from vecrollout.cli.film import Film
from vecrollout.cli.look import opened
from vecrollout.cli.options import Trace, examples, named_values
from vecrollout.cli.replay import Env, EnvArg
from vecrollout.cli.terminal import busy, note, say
from vecrollout.data.array_tree import ArrayTree
from vecrollout.data.frames import FIRST_FRAME, FRAME
from vecrollout.errors import OptionError
from vecrollout.progress import with_progress
from vecrollout.storage.dataset import TraceDataset

_SOURCES = ("auto", "frames", "obs", "render")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "vecrollout video pendulum --episode 3 --out episode.mp4",
            "vecrollout video cartpole --episode 0 --source render --fps 50 --out episode.gif",
        )
    )(video)


def video(
    path: Trace,
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="An .mp4 or .gif file.")],
    episode: Annotated[int, typer.Option(min=0, help="Which one, as `ls` numbers them.")] = 0,
    source: Annotated[
        str,
        typer.Option(
            help="frames (record --frames), obs (images), render (replay the episode), auto: the first there is."
        ),
    ] = "auto",
    fps: Annotated[int | None, typer.Option(min=1, help="Frames a second. Default: the environment's, or 30.")] = None,
    env: Env = None,
    env_arg: EnvArg = None,
) -> None:
    """Make a video of an episode, from its frames or images, or rendered anew in a live environment."""
    target = Path(out).expanduser()
    if target.suffix.lower() not in (".mp4", ".gif"):
        raise OptionError(f"out: expected an .mp4 or .gif file, got {out!r}")
    if source not in _SOURCES:
        raise OptionError(f"source: expected one of {', '.join(_SOURCES)}, got {source!r}")
    with busy("Reading the episode"):
        traces = opened(path)
        if episode >= len(traces):
            raise OptionError(f"episode: expected a number from 0 to {len(traces) - 1}, got {episode}")
        source = _first_source(traces, episode) if source == "auto" else source
    rate = fps or _rate(traces, episode)
    if source == "render":
        _render(traces, episode, target, rate, env, named_values("env-arg", env_arg or ()))
    else:
        frames = _frames(traces, episode) if source == "frames" else _images(traces, episode)
        with Film(target, rate) as film:
            for frame in with_progress(frames, lambda _: 1, None, "frames", len(frames)):
                film.add(frame)
    say(f"written: {out}")


def _first_source(traces: TraceDataset, number: int) -> str:
    infos = traces.trajectory(number, 0, 1).infos
    if infos is not None and FRAME in infos[0]:
        return "frames"
    return "obs" if _image(traces.trajectory(number, 0, 1).obs) is not None else "render"


def _frames(traces: TraceDataset, number: int) -> list[Any]:
    infos = traces.columns(number, ["infos"])["infos"]
    frames = [each[key] for each in (() if infos is None else infos) for key in (FIRST_FRAME, FRAME) if key in each]
    if not frames:
        raise OptionError("source: expected frames, the recording has none; use --source render")
    return frames


def _images(traces: TraceDataset, number: int) -> list[Any]:
    images = _image(traces.columns(number, ["obs"])["obs"])
    if images is None:
        raise OptionError("source: expected observations that are images, got others; use --source render")
    return list(images)


def _image(obs: Any) -> Any:
    """Images in observations, with three channels, the newest of stacked ones; None where there are none."""
    if isinstance(obs, ArrayTree):
        parts = obs.values() if hasattr(obs, "values") else obs
        return next((found for each in parts if (found := _image(each)) is not None), None)
    if obs.dtype != np.uint8 or obs.ndim not in (3, 4) or min(obs.shape[1:3]) < 2:
        return None
    if obs.ndim == 3:
        obs = obs[..., np.newaxis]
    if obs.shape[-1] > 4 and obs.shape[1] <= 4:
        obs = np.moveaxis(obs, 1, -1)  # channels first
    if obs.shape[-1] == 3:
        return obs
    return np.repeat(obs[..., -1:], 3, axis=-1) if obs.shape[-1] <= 4 else None


def _rate(traces: TraceDataset, number: int) -> int:
    """The environment's own number of frames a second, as its registration tells without making it."""
    from vecrollout.cli.environments import spec_of_json

    text = traces.about(number)["env_spec"]
    spec = None if text is None else spec_of_json(text)
    try:
        entry = None if spec is None else spec.entry_point
        cls = gym.envs.registration.load_env_creator(entry) if isinstance(entry, str) else entry
        return int(cls.metadata["render_fps"])  # type: ignore[union-attr]  # anything that fails has no rate
    except (AttributeError, KeyError, TypeError, ValueError, ImportError):
        return 30


def _render(
    traces: TraceDataset, number: int, target: Path, rate: int, env: str | None, arguments: dict[str, Any]
) -> None:
    """Replay an episode with what it depends on, and film it."""
    from vecrollout.cli.live import Outcome, Replay, maker_of

    replayed = Replay(traces, lambda about: maker_of(about, env, arguments, "rgb_array"))
    with Film(target, rate) as film:

        def watch(_: int, live: gym.Env[Any, Any]) -> None:
            frame = live.render()
            if not isinstance(frame, np.ndarray):
                raise OptionError("source: expected an environment that renders RGB images, got one that does not")
            film.add(frame)

        with busy("Replaying"):
            outcomes: Iterator[Outcome] = replayed.run({number}, watch)
            (outcome,) = outcomes
        if outcome.what is not None and outcome.step is None:
            raise OptionError(f"episode {number}: {outcome.what}; record with --frames, or pass --source obs")
    if outcome.what is not None:
        note(
            f"vecrollout: warning: the replay differs from step {outcome.step} on, where the video ends: {outcome.what}"
        )
