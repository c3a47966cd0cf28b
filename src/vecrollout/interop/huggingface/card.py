"""The dataset card of a data set of trajectories."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vecrollout.errors import OptionError

_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
_LARGER = "10M<n<100M"


def card_text(facts: Mapping[str, Any], features: Mapping[str, Any], env_spec: str | None, more: dict[str, Any]) -> str:
    """A card: metadata in YAML, and a description in Markdown."""
    description = more.pop("description", None)
    env_id = json.loads(env_spec)["id"] if env_spec else None
    tags = ["reinforcement-learning", "vecrollout", *([env_id] if env_id else [])]
    metadata = {
        "task_categories": ["reinforcement-learning"],
        "size_categories": [next((name for limit, name in _SIZES.items() if facts["steps"] < limit), _LARGER)],
        **more,
        "tags": list(dict.fromkeys([*tags, *more.get("tags", [])])),
        # Explicit, as lists of which some are missing have no fixed size in the file.
        "dataset_info": {"features": [_entry(name, feature) for name, feature in features.items()]},
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
    }
    try:
        # JSON is YAML.
        entries = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in metadata.items()]
    except (TypeError, ValueError) as error:
        raise OptionError(f"card: expected metadata that JSON can hold, got other: {error}") from error
    lines = ["---", *entries, "---", ""]
    lines += [f"# {more.get('pretty_name') or env_id or 'Trajectories'}", ""]
    if description:
        lines += [str(description), ""]
    lines += ["| | |", "|---|---|"]
    if env_id:
        lines += [f"| environment | `{env_id}` |"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += ["", "## Columns", "", "| column | type |", "|---|---|"]
    lines += [f"| `{name}` | {_described(feature)} |" for name, feature in features.items()]
    lines += [
        "",
        "A row is a step of an episode. The last observation of each episode is a row of its own, in which actions, "
        "rewards and flags are null.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'steps = load_dataset("<this data set>", split="train")',
        "",
        "from vecrollout.interop.huggingface import from_hf",
        "",
        "trajectories = from_hf(steps)",
        "```",
        "",
    ]
    return "\n".join(lines)


def _described(feature: Mapping[str, Any]) -> str:
    kind = feature["_type"]
    if kind == "Image":
        return "image"
    if kind == "Value":
        return str(feature["dtype"])
    if "feature" in feature:
        return f"{feature['feature']['dtype']}[{feature['length']}]"
    return f"{feature['dtype']}{feature['shape']}"


def _entry(name: str, feature: Mapping[str, Any]) -> dict[str, Any]:
    """A column in the form of `datasets.Features` in a card."""
    kind = feature["_type"]
    if kind == "Image":
        return {"name": name, "dtype": "image"}
    if kind == "Value":
        return {"name": name, "dtype": feature["dtype"]}
    if "feature" in feature:
        return {"name": name, "list": feature["feature"]["dtype"], "length": feature["length"]}
    size = {"shape": feature["shape"], "dtype": feature["dtype"]}
    return {"name": name, "dtype": {f"array{len(feature['shape'])}_d": size}}
