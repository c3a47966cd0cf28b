"""`vecrollout record`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from vecrollout.cli.options import EnvId, examples, named_values
from vecrollout.cli.outcomes import INTERRUPTED
from vecrollout.cli.terminal import busy, note, say_facts, size
from vecrollout.errors import OptionError

if TYPE_CHECKING:
    from vecrollout.cli.acting import PolicyOptions
    from vecrollout.cli.environments import Recipe
    from vecrollout.cli.session import Session, Shares
    from vecrollout.recording.environments import AnyEnv
    from vecrollout.storage.writing.writer import TraceWriter

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
        from vecrollout.cli.acting import PolicyOptions
        from vecrollout.cli.environments import Recipe
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
    )
    session = _begun(plan)
    try:
        session.run()
    finally:
        session.recorder.close()
    _summarize(session, plan)
    if session.interrupted:
        note("vecrollout: interrupted; everything recorded so far is kept")
        raise typer.Exit(INTERRUPTED)


@dataclass(frozen=True)
class Plan:
    """What to record, and where."""

    recipe: Recipe
    acting: PolicyOptions
    out: str
    n_envs: int
    seed: int
    episodes: int | None
    """How many are enough; None: `steps` tells."""
    steps: int | None
    overwrite: bool

    @property
    def metadata(self) -> dict[str, Any]:
        """What the trace keeps about how it was recorded."""
        made = {**self.recipe.to_json(), "seed": self.seed, "n_envs": self.n_envs}
        made |= {"deterministic": self.acting.deterministic, "algo": self.acting.algo}
        return {"env_id": self.recipe.env_id.rpartition(":")[2], "policy": self.acting.policy, METADATA: made}


def _begun(plan: Plan) -> Session:
    """The policy before new environments, which are recorded."""
    from vecrollout.cli.acting import Actor
    from vecrollout.cli.session import Session, Shares

    actor = Actor.load(plan.acting, plan.recipe)
    frame_bytes = _frame_bytes(plan.recipe)
    with busy(f"Starting {plan.n_envs} environments"):
        env = plan.recipe.many(plan.n_envs, plan.seed)
    try:
        see, act = actor.before(env, plan.seed)
        writer = _writer(plan, env)
    except BaseException:
        env.close()
        raise
    shares = Shares(writer, plan.episodes, plan.n_envs)
    return Session(_recorder(env, writer, shares, frame_bytes), shares, act, see, plan.steps, plan.seed)


def _writer(plan: Plan, env: AnyEnv) -> TraceWriter:
    from vecrollout.recording.environments import spaces_of
    from vecrollout.recording.writing import trace_writer

    options = {"metadata": plan.metadata, "episode_metadata": _seed_column, "overwrite": plan.overwrite}
    return trace_writer(plan.out, env, spaces_of(env), env_spec=plan.recipe.spec_json, **options)


def _recorder(env: AnyEnv, writer: TraceWriter, shares: Shares, frame_bytes: int) -> Any:
    """A recorder that owns the writer, and holds a gigabyte at most."""
    from vecrollout.recording.around import recorder_around
    from vecrollout.recording.environments import num_envs_of, spaces_of
    from vecrollout.recording.writing import most_transitions

    num_envs = num_envs_of(env)
    held = most_transitions(spaces_of(env), num_envs)
    if frame_bytes:
        held = max(num_envs, min(held, _HELD_BYTES // frame_bytes))
    options = {"error_on_premature_reset": False, "sink": shares, "max_transitions": held, "on_full": "flush"}
    recorder: Any = recorder_around(env, options, {})
    recorder.own(writer, writer.directory)
    return recorder


def _seed_column(trajectory: Any) -> dict[str, Any] | None:
    """The seed of an episode's reset as a column of the table, which has seeds that a user passed to `reset` only."""
    from vecrollout.cli.environments import SEED

    seed = (trajectory.episode.reset_info or {}).get(SEED)
    return None if seed is None else {SEED: int(seed)}


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


def _summarize(session: Session, plan: Plan) -> None:
    from vecrollout.cli.session import bytes_in

    shares, directory = session.shares, session.recorder.directory
    facts: dict[str, Any] = {
        "trace": directory,
        "environment": plan.recipe.env_id,
        "policy": plan.acting.policy,
        "episodes": f"{len(shares.lengths):,}",
        "steps": f"{shares.steps:,}",
        "ended by": ", ".join(f"{name} {count:,}" for name, count in shares.endings.most_common()) or "-",
        "return": _spread(shares.returns),
        "length": _spread(shares.lengths),
        "speed": f"{session.recorder.stepped / max(session.elapsed_s, 1e-9):,.0f} steps a second",
        "seed": plan.seed,
    }
    if isinstance(directory, Path):
        facts["size on disk"] = size(bytes_in(directory))
    say_facts(facts)


def _spread(values: list[Any]) -> str:
    if not values:
        return "-"
    return f"mean {np.mean(values):,.2f}, std {np.std(values):,.2f}, min {min(values):,.6g}, max {max(values):,.6g}"
