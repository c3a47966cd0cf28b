"""The formats that `convert` writes and reads, and what each of them is called with."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium

from vecrollout.errors import OptionError
from vecrollout.interop.conversion.output import new_directory, new_file
from vecrollout.interop.conversion.report import ConversionReport
from vecrollout.storage.dataset import TraceDataset, open_traces
from vecrollout.storage.writing.writer import TraceWriter


@dataclass(frozen=True)
class Format:
    """A format: functions by name, as `module:name`."""

    writer: str | None
    """Takes trajectories, a path and options; None: the format is only read."""
    reader: str | None
    """Takes a path and options; None: the format is only written."""


_HERE = __name__

FORMATS = {
    "trace": Format(f"{_HERE}:write_trace", f"{_HERE}:read_trace"),
    "lerobot": Format("vecrollout.interop.lerobot:to_lerobot", "vecrollout.interop.lerobot:from_lerobot"),
    "hf": Format("vecrollout.interop.huggingface:to_hf", "vecrollout.interop.huggingface:from_hf"),
    "parquet": Format("vecrollout.interop.huggingface:to_parquet", "vecrollout.interop.huggingface:from_hf"),
    "minari": Format("vecrollout.interop.minari:to_minari", "vecrollout.interop.minari:from_minari"),
    "torchrl": Format("vecrollout.interop.torchrl:to_torchrl", "vecrollout.interop.torchrl:from_torchrl"),
    "rllib": Format("vecrollout.interop.rllib:to_rllib", "vecrollout.interop.rllib:from_rllib"),
    "d3rlpy": Format("vecrollout.interop.d3rlpy:to_d3rlpy", "vecrollout.interop.d3rlpy:from_d3rlpy"),
    "robomimic": Format("vecrollout.interop.robomimic:to_robomimic", "vecrollout.interop.robomimic:from_robomimic"),
    "d4rl": Format("vecrollout.interop.d4rl:to_d4rl", "vecrollout.interop.d4rl:from_d4rl"),
    "npz": Format("vecrollout.interop.npz:to_npz", "vecrollout.interop.npz:from_npz"),
    "csv": Format("vecrollout.interop.csv:to_csv", "vecrollout.interop.csv:from_csv"),
    "sb3": Format(f"{_HERE}:write_replay_buffer", f"{_HERE}:read_replay_buffer"),
    "imitation": Format(f"{_HERE}:write_imitation", "vecrollout.compat.imitation.serialize:load"),
    "gym-recording": Format(f"{_HERE}:write_gym_recording", f"{_HERE}:read_gym_recording"),
}


def read(name: str, path: str, options: Mapping[str, Any]) -> Any:
    """The trajectories in a file or directory of a format."""
    reader = _function(name, "reader", "from")
    if name != "trace" and not os.path.exists(path):
        raise OptionError(f"{path}: expected a file or directory of the format {name}, got none")
    return reader(path, **_taken(name, "from", reader, options))


def write(name: str, trajectories: Any, path: str, options: Mapping[str, Any]) -> ConversionReport:
    """Write trajectories in a format."""
    writer = _function(name, "writer", "to")
    report: ConversionReport = writer(trajectories, path, **_taken(name, "to", writer, options))
    return report


def check_options(source: str, target: str, options: Mapping[str, Any]) -> None:
    """Refuse an option that neither of the two formats takes."""
    functions = _function(source, "reader", "from"), _function(target, "writer", "to")
    for option in options:
        if not any(option in inspect.signature(function).parameters for function in functions):
            takers = [name for name in FORMATS if _takes(name, option)]
            raise OptionError(f"{option}: expected for {' or '.join(takers)}, got --from {source} --to {target}")


def _takes(name: str, option: str) -> bool:
    functions = (FORMATS[name].writer, FORMATS[name].reader)
    try:
        return any(option in inspect.signature(_named(each)).parameters for each in functions if each is not None)
    except ImportError:
        return False


def _function(name: str, role: str, option: str) -> Callable[..., Any]:
    text = getattr(FORMATS[name], role) if name in FORMATS else None
    if text is None:
        known = [each for each, format_ in FORMATS.items() if getattr(format_, role)]
        raise OptionError(f"{option}: expected one of {', '.join(known)}, got {name!r}")
    return _named(text)


def _named(text: str) -> Callable[..., Any]:
    module, _, name = text.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _taken(name: str, option: str, function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    needed = [
        each for each, told in parameters.items() if told.default is told.empty and told.kind is told.KEYWORD_ONLY
    ]
    missing = [each for each in needed if each not in options]
    if missing:
        raise OptionError(f"{option}: {name} needs --{missing[0].replace('_', '-')}")
    return {each: value for each, value in options.items() if each in parameters}


def read_trace(path: str) -> TraceDataset:
    """A trace."""
    return open_traces(path)


def write_trace(trajectories: Any, path: str) -> ConversionReport:
    """Write trajectories of another format as a trace, which appears when it is complete."""
    spaces = getattr(trajectories, "observation_space", None), getattr(trajectories, "action_space", None)
    about: dict[str, Any] = {
        "spaces": None if None in spaces else spaces,
        "env_spec": getattr(trajectories, "env_spec", None),
        "metadata": getattr(trajectories, "metadata", None),
    }
    episodes = steps = 0
    with new_directory(path) as directory, TraceWriter(directory, **about) as writer:
        for batch in trajectories.batches() if hasattr(trajectories, "batches") else [trajectories]:
            writer.extend(batch)
            episodes += len(batch)
            steps += sum(map(len, batch))
    return ConversionReport("trace", Path(path), episodes, steps)


def write_replay_buffer(trajectories: Any, path: str) -> ConversionReport:
    """Write a replay buffer that `model.load_replay_buffer` of an off-policy algorithm of SB3 loads."""
    from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
    from stable_baselines3.common.save_util import save_to_pkl

    from vecrollout.interop.sb3 import to_replay_buffer

    spaces = trajectories.observation_space, trajectories.action_space
    if None in spaces:
        raise OptionError("to: sb3 needs observation and action space, which this data does not tell")
    cls = DictReplayBuffer if isinstance(spaces[0], gymnasium.spaces.Dict) else ReplayBuffer
    try:
        buffer = cls(sum(map(len, trajectories)), *spaces, device="cpu", handle_timeout_termination=True)
    except NotImplementedError as error:
        raise OptionError(f"to: sb3 has no replay buffer for {spaces[0]} and {spaces[1]}") from error
    report = to_replay_buffer(trajectories, buffer)
    with new_file(path) as file, file.open("wb") as stream:
        save_to_pkl(stream, buffer)
    return report


def read_replay_buffer(path: str) -> Any:
    """The transitions of a pickled replay buffer. Loading it can run code that is in the file."""
    from stable_baselines3.common.save_util import load_from_pkl

    from vecrollout.interop.sb3 import from_replay_buffer

    try:
        buffer = load_from_pkl(path)
    except Exception as error:  # what unpickling raises depends on the file
        raise OptionError(f"{path}: expected a replay buffer that SB3 saved: {error}") from error
    return from_replay_buffer(buffer)


def write_imitation(trajectories: Any, path: str) -> ConversionReport:
    """Write what `imitation.data.serialize.load` loads."""
    from vecrollout.compat.imitation import serialize

    listed = list(trajectories)
    with new_directory(path) as directory:
        serialize.save(directory, listed)
    both = sum(each.truncated for each in listed)
    lost = {"truncated flags": both} if both else {}
    return ConversionReport("imitation", Path(path), len(listed), sum(map(len, listed)), others=lost)


def write_gym_recording(trajectories: Any, path: str) -> ConversionReport:
    """Write what OpenAI's gym-recording reads."""
    from vecrollout.interop.gym_recording import GymRecordingWriter

    listed = trajectories.stitched() if isinstance(trajectories, TraceDataset) else trajectories
    episodes = steps = infos = 0
    with new_directory(path) as directory, GymRecordingWriter(directory) as writer:
        for each in listed:
            writer.append(each)
            episodes, steps = episodes + 1, steps + len(each)
            infos += 0 if each.infos is None else sum(map(bool, each.infos))
    return ConversionReport("gym-recording", Path(path), episodes, steps, infos=infos, others={"endings": episodes})


def read_gym_recording(path: str) -> Any:
    """Episodes of OpenAI's gym-recording."""
    from vecrollout.interop.gym_recording import GymRecordingReader

    return list(GymRecordingReader(path).trajectories())
