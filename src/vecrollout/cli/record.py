"""`vecrollout record`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from vecrollout.cli.options import EnvId, examples, named_values
from vecrollout.cli.outcomes import INTERRUPTED
from vecrollout.cli.terminal import busy, note, say_facts, size
from vecrollout.errors import ArgumentTypeError, OptionError, SpaceMismatchError

if TYPE_CHECKING:
    from vecrollout.cli.environments import Recipe
    from vecrollout.cli.session import Session

_HELD_BYTES = 1 << 30
METADATA = "recorded_with"
"""Key of a trace's metadata under which is kept how its environments were made."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "vecrollout record CartPole-v1 --policy random --n-envs 8 --episodes 100 --out cartpole",
            "vecrollout record PongNoFrameskip-v4 --policy dqn.zip --vec subproc --steps 100000 --out pong",
            "vecrollout record Pendulum-v1 --policy my_module:controller --frames --episodes 5 --out pendulum",
        )
    )(record)


def record(
    env_id: EnvId,
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="Where to write; may hold traces already.")],
    policy: Annotated[
        str,
        typer.Option(help="random, a model's MODEL.zip of SB3 or sb3-contrib, or MODULE:FUNCTION or FILE.py:FUNCTION."),
    ] = "random",
    n_envs: Annotated[int, typer.Option("--n-envs", min=1, help="How many environments run side by side.")] = 1,
    episodes: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many episodes, the same number in each environment.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after this many steps of all environments.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="Seed of environments and actions. Default: drawn.")
    ] = None,
    vec: Annotated[
        str, typer.Option(help="dummy or subproc (SB3), sync or async (Gymnasium), own (the environment's).")
    ] = "dummy",
    deterministic: Annotated[bool, typer.Option("--deterministic", help="A model takes its likeliest action.")] = False,
    algo: Annotated[str | None, typer.Option(help="Algorithm of the model. Default: found out from the file.")] = None,
    normalize: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Statistics of VecNormalize, or `none`. Default: those beside the model."),
    ] = None,
    atari: Annotated[
        bool | None, typer.Option("--atari/--no-atari", help="Whether to use SB3's AtariWrapper. Default: for games.")
    ] = None,
    frame_stack: Annotated[
        int | None, typer.Option(min=1, help="How many frames to stack. Default: 4 with the AtariWrapper.")
    ] = None,
    frames: Annotated[bool, typer.Option("--frames", help='Keep a rendered frame a step, in infos["frame"].')] = False,
    env_arg: Annotated[
        list[str] | None, typer.Option("--env-arg", metavar="NAME=VALUE", help="Argument of gymnasium.make.")
    ] = None,
    device: Annotated[str, typer.Option(help="Device of the model.")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove the traces that DIR holds.")] = False,
) -> None:
    """Run a policy in environments and record every step to disk. Ctrl-C stops and keeps everything (exit code 130).

    Loading a MODEL.zip or its statistics can run code that is in these files.
    """
    if (episodes is None) == (steps is None):
        raise OptionError("record: expected either --episodes or --steps, got " + ("both" if steps else "neither"))
    with busy("Loading Stable-Baselines3"):
        from vecrollout.cli.environments import Recipe
    arguments = named_values("env-arg", env_arg or ())
    recipe = Recipe.of(env_id, arguments, atari=atari, frame_stack=frame_stack, keeps_frames=frames, vectorization=vec)
    seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
    acting = {"policy": policy, "deterministic": deterministic, "algo": algo, "normalize": normalize, "device": device}
    session = _session(recipe, out, n_envs, seed, episodes, steps, acting, overwrite)
    try:
        session.run()
    finally:
        session.recorder.close()
    _summarize(session, recipe, policy, seed)
    if session.interrupted:
        note("vecrollout: interrupted; everything recorded so far is kept")
        raise typer.Exit(INTERRUPTED)


def _session(
    recipe: Recipe,
    out: str,
    n_envs: int,
    seed: int,
    episodes: int | None,
    steps: int | None,
    acting: dict[str, Any],
    overwrite: bool,
) -> Session:
    """The recorder around new environments, and the policy."""
    from vecrollout.cli.models import load_function, load_model, model_path, statistics_path
    from vecrollout.cli.session import Session, Shares
    from vecrollout.recording.around import recorder_around
    from vecrollout.recording.environments import spaces_of
    from vecrollout.recording.writing import most_transitions, trace_writer

    policy: Any = None
    statistics: Path | None = None
    if acting["policy"] != "random":
        path = model_path(acting["policy"])
        if path is not None:
            with busy(f"Loading {path}"):
                policy = load_model(path, acting["algo"], acting["device"])
            statistics = _statistics(acting["normalize"], statistics_path(path, recipe.env_id))
        else:
            policy = load_function(acting["policy"])
    if statistics is not None and recipe.vectorization not in ("dummy", "subproc"):
        raise OptionError(f"vec: expected dummy or subproc for a model with {statistics}, got {recipe.vectorization}")
    frame_bytes = _frame_bytes(recipe)
    with busy(f"Starting {n_envs} environments"):
        env = recipe.many(n_envs, seed)
    try:
        see, act = _policy(policy, env, statistics, acting["deterministic"], seed)
        metadata = {"env_id": recipe.env_id.rpartition(":")[2], "policy": acting["policy"]}
        metadata[METADATA] = {**recipe.to_json(), "seed": seed, "n_envs": n_envs} | {
            name: acting[name] for name in ("deterministic", "algo")
        }
        spaces = spaces_of(env)
        options = {"metadata": metadata, "episode_metadata": _seed_column, "overwrite": overwrite}
        writer = trace_writer(out, env, spaces, env_spec=recipe.spec_json, **options)
    except BaseException:
        env.close()
        raise
    shares = Shares(writer, episodes, n_envs)
    held = most_transitions(spaces, n_envs)
    recorder: Any = recorder_around(
        env,
        {
            "error_on_premature_reset": False,
            "sink": shares,
            "max_transitions": max(n_envs, min(held, _HELD_BYTES // frame_bytes) if frame_bytes else held),
            "on_full": "flush",
        },
        {},
    )
    recorder.own(writer, writer.directory)
    return Session(recorder, shares, act, see, steps, seed)


def _seed_column(trajectory: Any) -> dict[str, Any] | None:
    """The seed of an episode's reset as a column of the table, which has seeds that a user passed to `reset` only."""
    from vecrollout.cli.environments import SEED

    seed = (trajectory.episode.reset_info or {}).get(SEED)
    return None if seed is None else {SEED: int(seed)}


def _statistics(given: str | None, found: Path | None) -> Path | None:
    if given is None:
        if found is not None:
            note(f"vecrollout: observations are normalized by {found}")
        return found
    if given == "none":
        return None
    path = Path(given).expanduser()
    if not path.is_file():
        raise OptionError(f"normalize: expected a file that VecNormalize saved, got none at {given!r}")
    return path


def _policy(policy: Any, env: Any, statistics: Path | None, deterministic: bool, seed: int) -> tuple[Any, Any]:
    """What the policy sees, and the policy as a function."""
    from stable_baselines3.common.base_class import BaseAlgorithm

    from vecrollout.cli.models import Senses
    from vecrollout.collecting.policy import policy_to_callable
    from vecrollout.recording.environments import VEC_ENV, kind_of

    see: Any = _as_recorded
    seen = env
    if isinstance(policy, BaseAlgorithm):
        policy.set_random_seed(seed)
        if kind_of(env) == VEC_ENV:
            see = Senses(env, policy, statistics)
            seen = see.venv
    elif deterministic:
        raise ArgumentTypeError("deterministic: only for a model; other policies decide by themselves")
    try:
        return see, policy_to_callable(policy, seen, deterministic, np.random.default_rng(seed))
    except SpaceMismatchError as error:
        raise SpaceMismatchError(f"policy: the model was trained in another environment: {error}") from error


def _as_recorded(obs: Any) -> Any:
    return obs


def _frame_bytes(recipe: Recipe) -> int:
    """Bytes of a frame, 0 where none are kept. The environment is tried out before others are made in processes."""
    env = recipe.one()
    try:
        if not recipe.keeps_frames:
            return 0
        env.reset(seed=0)
        frame = np.asarray(env.render())
        if frame.ndim != 3 or frame.dtype != np.uint8:
            raise OptionError(f"frames: expected an environment that renders RGB images, {recipe.env_id} does not")
        return frame.nbytes
    finally:
        env.close()


def _summarize(session: Session, recipe: Recipe, policy: str, seed: int) -> None:
    from vecrollout.cli.session import bytes_in

    shares, directory = session.shares, session.recorder.directory
    facts: dict[str, Any] = {
        "trace": directory,
        "environment": recipe.env_id,
        "policy": policy,
        "episodes": f"{len(shares.lengths):,}",
        "steps": f"{shares.steps:,}",
        "ended by": ", ".join(f"{name} {count:,}" for name, count in shares.endings.most_common()) or "-",
        "return": _spread(shares.returns),
        "length": _spread(shares.lengths),
        "speed": f"{session.recorder.stepped / max(session.elapsed_s, 1e-9):,.0f} steps a second",
        "seed": seed,
    }
    if isinstance(directory, Path):
        facts["size on disk"] = size(bytes_in(directory))
    say_facts(facts)


def _spread(values: list[Any]) -> str:
    if not values:
        return "-"
    return f"mean {np.mean(values):,.2f}, std {np.std(values):,.2f}, min {min(values):,.6g}, max {max(values):,.6g}"
