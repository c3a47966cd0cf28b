"""`vecrollout record`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from vecrollout.cli.options import EnvId, examples, named_values
from vecrollout.cli.outcomes import INTERRUPTED
from vecrollout.cli.terminal import busy, note, say_facts
from vecrollout.data.sizes import size_text
from vecrollout.errors import OptionError

if TYPE_CHECKING:
    from vecrollout.cli.environments import Recipe
    from vecrollout.cli.plan import Plan, Recorded
    from vecrollout.cli.session import Session, Shares
    from vecrollout.recording.environments import AnyEnv


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "vecrollout record CartPole-v1 --policy random --n-envs 8 --episodes 100 --out cartpole",
            "vecrollout record PongNoFrameskip-v4 --policy dqn.zip --vec subproc --steps 100000 --out pong",
            "vecrollout record Pendulum-v1 --policy my_module:controller --frames --episodes 5 --out pendulum",
            "vecrollout record CartPole-v1 --ray-workers 4 --n-envs 8 --steps 1000000 --out cartpole",
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
    ray_workers: Annotated[
        int | None,
        typer.Option(
            "--ray-workers",
            min=1,
            help="Record with this many processes, each with --n-envs environments, on this machine or the Ray cluster "
            "of RAY_ADDRESS. At least --episodes are recorded, or exactly --steps.",
        ),
    ] = None,
) -> None:
    """Run a policy in environments and record every step to disk. Ctrl-C stops and keeps everything (exit code 130).

    Loading a MODEL.zip or its statistics can run code that is in these files.
    """
    if (episodes is None) == (steps is None):
        raise OptionError("record: expected either --episodes or --steps, got " + ("both" if steps else "neither"))
    _check_options_of_workers(ray_workers, frames, device)
    with busy("Loading Stable-Baselines3" if ray_workers is None else "Loading Stable-Baselines3 and Ray"):
        if ray_workers is not None:
            from vecrollout.cli.workers import recorded_by_workers
        from vecrollout.cli.acting import PolicyOptions
        from vecrollout.cli.environments import Recipe
        from vecrollout.cli.plan import Plan
    arguments = named_values("env-arg", env_arg or ())
    recipe = Recipe.of(env_id, arguments, atari=atari, frame_stack=frame_stack, keeps_frames=frames, vectorization=vec)
    plan = Plan(
        recipe,
        PolicyOptions(policy, deterministic, algo, normalize, device),
        out=out,
        n_envs=n_envs,
        seed=int(np.random.default_rng().integers(2**31)) if seed is None else seed,
        episodes=episodes,
        steps=steps,
        overwrite=overwrite,
        ray_workers=ray_workers,
    )
    recorded = _recorded_here(plan) if ray_workers is None else recorded_by_workers(plan, ray_workers)
    _summarize(recorded, plan)
    if recorded.interrupted:
        note("vecrollout: interrupted; everything recorded so far is kept")
        raise typer.Exit(INTERRUPTED)


def _check_options_of_workers(ray_workers: int | None, frames: bool, device: str) -> None:
    if ray_workers is not None and frames:
        raise OptionError(
            "frames: expected a recording without --ray-workers, got both; `vecrollout video` renders episodes later"
        )
    if ray_workers is not None and device != "cpu":
        raise OptionError(f"device: expected cpu with --ray-workers, got {device}")


def _recorded_here(plan: Plan) -> Recorded:
    from vecrollout.cli.plan import Recorded

    session = _begun(plan)
    try:
        session.run()
    finally:
        session.recorder.close()
    shares, speed = session.shares, session.recorder.stepped / max(session.elapsed_s, 1e-9)
    return Recorded(
        session.recorder.directory,
        shares.lengths,
        shares.returns,
        shares.endings,
        shares.steps,
        steps_per_s=speed,
        interrupted=session.interrupted,
    )


def _begun(plan: Plan) -> Session:
    """The policy before new environments, which are recorded."""
    from vecrollout.cli.acting import Actor
    from vecrollout.cli.session import Session

    actor = Actor.load(plan.acting, plan.recipe)
    frame_bytes = _frame_bytes(plan.recipe)
    with busy(f"Starting {plan.n_envs} environments"):
        env = plan.recipe.many(plan.n_envs, plan.seed)
    try:
        see, act = actor.before(env, plan.seed)
        recorder, shares = _recorder(plan, env, frame_bytes)
    except BaseException:
        env.close()
        raise
    return Session(recorder, shares, act, see, plan.steps, plan.seed)


def _recorder(plan: Plan, env: AnyEnv, frame_bytes: int) -> tuple[Any, Shares]:
    """A recorder that owns its writer, and holds a gigabyte at most; and its sink."""
    from vecrollout.cli.environments import seed_column
    from vecrollout.cli.session import Shares
    from vecrollout.recording.around import recorder_around
    from vecrollout.recording.environments import num_envs_of, spaces_of
    from vecrollout.recording.writing import most_transitions, trace_writer

    spaces, num_envs = spaces_of(env), num_envs_of(env)
    held = most_transitions(spaces, num_envs, frame_bytes)
    about: dict[str, Any] = {
        "metadata": plan.metadata,
        "episode_metadata": seed_column,
        "env_spec": plan.recipe.spec_json,
    }
    with trace_writer(plan.out, env, spaces, overwrite=plan.overwrite, **about) as writer:
        shares = Shares(writer, plan.episodes, plan.n_envs)
        options = {"error_on_premature_reset": False, "sink": shares, "max_transitions": held, "on_full": "flush"}
        recorder: Any = recorder_around(env, options, {})
    recorder.own(writer, writer.directory)
    return recorder, shares


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


def _summarize(recorded: Recorded, plan: Plan) -> None:
    from vecrollout.storage.files.usage import bytes_in

    facts: dict[str, Any] = {
        "trace": recorded.directory,
        "environment": plan.recipe.env_id,
        "policy": plan.acting.policy,
        "episodes": f"{len(recorded.lengths):,}",
        "steps": f"{recorded.steps:,}",
        "ended by": ", ".join(f"{name} {count:,}" for name, count in recorded.endings.most_common()) or "-",
        "return": _spread(recorded.returns),
        "length": _spread(recorded.lengths),
        "speed": f"{recorded.steps_per_s:,.0f} steps a second",
        "seed": plan.seed,
    }
    if isinstance(recorded.directory, Path):
        facts["size on disk"] = size_text(bytes_in(recorded.directory))
    say_facts(facts)


def _spread(values: list[Any]) -> str:
    if not values:
        return "-"
    return f"mean {np.mean(values):,.2f}, std {np.std(values):,.2f}, min {min(values):,.6g}, max {max(values):,.6g}"
