"""The pictures of the pages Home and Concepts."""

from __future__ import annotations

from figures.svg import Drawing


def flow() -> Drawing:
    """From an environment to a learner, through memory or through a disk."""
    picture = Drawing(400, 452, "Data flow: environment, recorder, memory or trace, learner")
    picture.box(50, 12, 300, 48, "Your environments", "SB3 VecEnv · Gymnasium VectorEnv · single Env")
    picture.arrow((200, 60), (200, 90))
    picture.text(208, 80, "every step, copied once", size=12, anchor="start", kind="soft")
    picture.box(50, 92, 300, 48, "Recorder", "notes how each episode starts and ends", fill="obs", border="accent")
    picture.arrow((110, 140), (110, 186))
    picture.text(102, 166, "pop", size=12, anchor="end", kind="soft")
    picture.arrow((290, 140), (290, 186))
    picture.text(298, 166, "sink", size=12, anchor="start", kind="soft")
    picture.box(12, 188, 180, 48, "In memory", "trajectories, transitions")
    picture.box(208, 188, 180, 48, "On disk: a trace", "Arrow files, any object store")
    picture.arrow((298, 236), (298, 266))
    picture.text(306, 256, "open_traces", size=12, anchor="start", kind="soft code")
    picture.box(208, 268, 180, 48, "Dataset", "filter, split, relabel, write", fill="obs", border="accent")
    picture.arrow((102, 236), (102, 346))
    picture.arrow((248, 316), (248, 330), (160, 330), (160, 346))
    picture.text(228, 346, "sample", size=12, anchor="middle", kind="soft")
    picture.arrow((340, 316), (340, 386))
    picture.text(332, 366, "convert", size=12, anchor="end", kind="soft")
    picture.box(12, 348, 180, 48, "Learner", "imitation, offline RL, yours", fill="rew")
    picture.box(208, 388, 180, 52, "Other formats", "LeRobot, Minari, HF, SB3, ...")
    return picture


def trajectory() -> Drawing:
    """A trajectory of T steps has T + 1 observations."""
    picture = Drawing(400, 232, "A trajectory of four steps: five observations, four actions, four rewards")
    left, pitch, size = 72, 66, 44
    for t in range(5):
        picture.box(left + t * pitch, 16, size, 34, f"o{t}", fill="obs" if t < 4 else "end", kind="code")
    for t in range(4):
        x = left + t * pitch + pitch / 2
        picture.arrow((x - 11, 50), (x, 70))
        picture.arrow((x + 22, 70), (x + 33, 52))
        picture.box(x, 72, size, 30, f"a{t}", fill="act", kind="code")
        picture.box(x, 108, size, 30, f"r{t}", fill="rew", kind="code")
        picture.box(x, 144, size, 30, f"i{t}", kind="code")
    for y, label in ((38, "obs"), (92, "acts"), (128, "rews"), (164, "infos")):
        picture.text(12, y, label, anchor="start", kind="code")
    picture.text(12, 198, "T = 4 steps. obs has T + 1 rows; acts, rews and infos have T.", size=12, anchor="start")
    picture.text(
        12,
        216,
        "o4 is the last observation. terminated, truncated: how it ended.",
        size=12,
        anchor="start",
        kind="soft",
    )
    return picture


def transitions() -> Drawing:
    """The same four steps as transitions."""
    picture = Drawing(400, 218, "The same steps as transitions: one row a step, in any order")
    columns = (("obs", 62), ("acts", 118), ("rews", 174), ("next_obs", 244), ("dones", 320))
    for name, x in columns:
        picture.text(x + 22, 24, name, kind="code", size=12)
    for row, step in enumerate((2, 0, 3, 1)):
        y = 34 + row * 36
        is_last = step == 3
        picture.text(12, y + 20, f"step {step}", anchor="start", size=12, kind="soft")
        picture.box(62, y, 44, 30, f"o{step}", fill="obs", kind="code")
        picture.box(118, y, 44, 30, f"a{step}", fill="act", kind="code")
        picture.box(174, y, 44, 30, f"r{step}", fill="rew", kind="code")
        picture.box(244, y, 44, 30, f"o{step + 1}", fill="end" if is_last else "obs", kind="code")
        picture.box(314, y, 56, 30, str(is_last), fill="end" if is_last else "rest", kind="code", size=12)
    picture.text(
        12, 204, "A row needs no other row, so a learner can shuffle them.", size=12, anchor="start", kind="soft"
    )
    return picture


def fragments() -> Drawing:
    """A pop cuts a running episode; stitch joins it."""
    picture = Drawing(400, 236, "A pop cuts a running episode into two fragments, which stitch joins")
    picture.text(12, 24, "One episode of 8 steps", anchor="start", size=12)
    for t in range(8):
        picture.box(12 + t * 42, 34, 38, 28, str(t), fill="obs" if t < 3 else "act", kind="code")
    picture.line((136, 28), (136, 70), color="accent", width=2, dashed=True)
    picture.text(142, 84, "pop_trajectories()", size=12, kind="code")
    picture.arrow((44, 66), (44, 94))
    picture.arrow((280, 66), (280, 94))
    picture.box(12, 96, 120, 52, "fragment", "3 steps, obs 0 to 3", fill="obs", size=12)
    picture.box(140, 96, 206, 52, "fragment", "5 steps, obs 3 to 8", fill="act", size=12)
    picture.text(72, 164, "start_step 0", size=12, kind="soft code")
    picture.text(243, 164, "start_step 3", size=12, kind="soft code")
    picture.text(12, 192, "Observation 3 is the last one of the first fragment and the", anchor="start", size=12)
    picture.text(12, 208, "first one of the second. stitch([first, second]) joins them.", anchor="start", size=12)
    picture.text(12, 226, "Both have the same episode.recording and episode.id.", anchor="start", size=12, kind="soft")
    return picture


def batch() -> Drawing:
    """Trajectories behind one another in one array a field."""
    picture = Drawing(400, 214, "A batch of two trajectories: lengths 3 and 2, seven observations, five actions")
    picture.text(12, 46, "obs", anchor="start", kind="code")
    picture.text(12, 98, "acts", anchor="start", kind="code")
    picture.text(12, 150, "lengths", anchor="start", kind="code")
    x = 84.0
    for trajectory, fill, steps in (("A", "obs", 3), ("B", "act", 2)):
        start = x
        for t in range(steps + 1):
            picture.box(x, 26, 36, 30, f"{trajectory}{t}", fill=fill, kind="code")
            if t < steps:
                picture.box(x + 20, 78, 36, 30, f"{trajectory}{t}", fill=fill, kind="code")
            x += 40
        picture.box(start + 20, 130, steps * 40 - 4, 30, str(steps), fill=fill, kind="code")
        x += 16
    picture.text(12, 186, "N = 2 trajectories. obs has sum(lengths) + N = 7 rows,", anchor="start", size=12)
    picture.text(12, 202, "acts and rews have sum(lengths) = 5.", anchor="start", size=12)
    return picture


def autoreset() -> Drawing:
    """What a vector environment returns around the end of an episode, in the three modes."""
    picture = Drawing(400, 370, "Autoreset modes: what each step returns around the end of an episode")
    modes = (
        (
            "next-step",
            ("a2", "o3", "end"),
            ("any", "p0", "reset"),
            ("b0", "p1", "step"),
            "a step that resets is not recorded",
        ),
        (
            "same-step",
            ("a2", "p0", "end"),
            ("b0", "p1", "step"),
            ("b1", "p2", "step"),
            "o3 comes in the infos, as final_obs",
        ),
        ("disabled", ("a2", "o3", "end"), ("reset", "p0", "reset"), ("b0", "p1", "step"), "you reset with a mask"),
    )
    picture.text(12, 20, "Episode o ends at o3. Episode p follows.", anchor="start", size=12)
    for row, (mode, *calls, note) in enumerate(modes):
        y = 34 + row * 92
        picture.text(12, y + 14, mode, anchor="start", bold=True)
        picture.text(100, y + 14, note, anchor="start", size=12, kind="soft")
        picture.text(12, y + 42, "action", anchor="start", size=12, kind="soft")
        picture.text(12, y + 74, "returns", anchor="start", size=12, kind="soft")
        for column, (action, obs, kind) in enumerate((("a1", "o2", "step"), *calls)):
            x = 72 + column * 80
            is_dead = kind == "reset"
            picture.box(x, y + 24, 72, 28, action, fill="rest" if is_dead else "act", kind="code", dashed=is_dead)
            fill = "end" if kind == "end" else "rest" if is_dead else "obs"
            picture.box(x, y + 56, 72, 28, obs, fill=fill, kind="code")
    picture.text(12, 328, "All three modes give the same recording:", anchor="start", size=12)
    for number, (label, fill) in enumerate(
        (("o2", "obs"), ("a2", "act"), ("o3", "end"), ("", ""), ("p0", "obs"), ("b0", "act"), ("p1", "obs"))
    ):
        if label:
            picture.box(12 + number * 48, 336, 42, 26, label, fill=fill, kind="code")
    return picture


def windows() -> Drawing:
    """Windows of three steps out of a trajectory of five."""
    picture = Drawing(400, 404, "Windows of length 3 of a trajectory of five steps, with each kind of padding")
    left, pitch = 92, 36
    picture.text(12, 34, "trajectory", anchor="start", size=12)
    for t in range(5):
        picture.box(left + t * pitch, 16, 32, 28, str(t), fill="obs", kind="code")
    rows = (
        ("pad=None", ((0, 3), (1, 4), (2, 5)), "whole windows only"),
        ('pad="after"', ((0, 3), (1, 4), (2, 5), (3, 6), (4, 7)), "one begins with each step"),
        ('pad="before"', ((-2, 1), (-1, 2), (0, 3), (1, 4), (2, 5)), "one ends with each step"),
    )
    y = 62.0
    for name, windows_, note in rows:
        picture.text(12, y + 12, name, anchor="start", size=12, kind="code")
        picture.text(120, y + 12, note, anchor="start", size=12, kind="soft")
        y += 20
        for start, stop in windows_:
            for t in range(start, stop):
                is_real = 0 <= t < 5
                picture.box(left + t * pitch, y, 32, 13, fill="act" if is_real else "paper", dashed=not is_real)
            y += 17
        y += 10
    picture.text(12, 378, "Dashed cells are padding: zeros, where mask is False.", anchor="start", size=12)
    picture.text(
        12, 394, "Each window also has the observation after its last step.", anchor="start", size=12, kind="soft"
    )
    return picture


DRAWINGS = {each.__name__: each for each in (flow, trajectory, transitions, fragments, batch, autoreset, windows)}
