"""What the viewer's server answers, by starlette's test client."""

from __future__ import annotations

import io
import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from traces_to_view import HOSTILE, episode, write

from vecrollout import Episode, TraceWriter, TrajectoryBatch, TrajectoryWithRew, open_traces
from vecrollout.data.png import decoded
from vecrollout.data.trajectory import cut
from vecrollout.viewer.application import application

TOKEN = "secret"
LENGTHS = [3, 7, 5, 9, 4, 30]


def client_of(directory: Path) -> TestClient:
    return TestClient(application(open_traces(directory), TOKEN), base_url=f"http://127.0.0.1/{TOKEN}/")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trajectories = [episode(number, steps) for number, steps in enumerate(LENGTHS)]
    return write(tmp_path_factory.mktemp("trace"), trajectories, env_spec='{"id": "Some-v0"}', metadata={"by": HOSTILE})


@pytest.fixture
def client(directory: Path) -> Iterator[TestClient]:
    with client_of(directory) as client:
        yield client


def get(client: TestClient, path: str) -> Any:
    response = client.get(path)
    assert response.status_code == 200, response.text
    return response.json()


def test_nothing_without_the_token(client: TestClient) -> None:
    for path in ("/", "/api/status", "/wrong/", "/wrong/api/status", f"/{TOKEN}x/api/status", f"//{TOKEN}/api/status"):
        assert client.get(f"http://127.0.0.1{path}").status_code == 404


def test_nothing_under_another_name_of_the_host(client: TestClient) -> None:
    """A page of another site whose name resolves to this machine is of that name."""
    assert client.get("api/status", headers={"host": "elsewhere.example"}).status_code == 400


@pytest.mark.parametrize("path", ["", "api/status", "static/viewer.js", "plotly.js", "nothing", "api/episodes/99"])
def test_every_answer_keeps_the_page_to_itself(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"


def test_no_file_outside_of_the_pages(client: TestClient) -> None:
    for path in ("static/../application.py", "static/%2e%2e/application.py", "static/..%2fapplication.py"):
        assert client.get(path).status_code == 404


def test_overview(client: TestClient) -> None:
    found = get(client, "api/overview")
    assert (found["env_spec"], found["trajectories"], found["steps"]) == ("Some-v0", len(LENGTHS), sum(LENGTHS))
    assert found["endings"] == [{"name": "terminated", "count": 5}, {"name": "truncated", "count": 1}]
    assert found["over_recording"]["return"]["value"] == LENGTHS
    assert sum(found["distributions"]["length"]["counts"]) == len(LENGTHS)
    (returns, _) = found["statistics"]
    assert (returns["mean"], returns["max"]) == (np.mean(LENGTHS), 30)
    assert [(each["env"], each["trajectories"], each["steps"]) for each in found["environments"]] == [
        (0, 3, 3 + 5 + 4),
        (1, 3, 7 + 9 + 30),
    ]


def test_outliers_are_ranked(tmp_path: Path) -> None:
    lengths = [10, 11, 12, 10, 11, 12, 10, 90, 11, 200]
    write(tmp_path, [episode(number, steps) for number, steps in enumerate(lengths)])
    with client_of(tmp_path) as client:
        outliers = get(client, "api/overview")["outliers"]
    assert [(each["number"], each["quantity"]) for each in outliers] == [
        (9, "return"),
        (9, "length"),
        (7, "return"),
        (7, "length"),
    ]


def test_statistics_of_columns(client: TestClient) -> None:
    found = get(client, "api/columns")
    rows = {each["column"]: each for each in found["steps"]}
    assert found["sampled"] == sum(LENGTHS)
    assert (rows["obs['position'][0]"]["min"], rows["obs['position'][0]"]["max"]) == (0, 29)
    assert rows["rews"]["mean"] == 1
    assert rows["acts"]["max"] == 2


def numbers(client: TestClient, query: str) -> list[int]:
    return [row["number"] for row in get(client, f"api/episodes?{query}")["rows"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [0, 1, 2, 3, 4, 5]),
        ("sort=length", [0, 4, 2, 1, 3, 5]),
        ("sort=return_&descending=1", [5, 3, 1, 2, 4, 0]),
        ("descending=1&limit=2", [5, 4]),
        ("offset=4", [4, 5]),
        ("offset=400", []),
        ("return_min=5&return_max=9", [1, 2, 3]),
        ("length_max=4", [0, 4]),
        ("ended_by=truncated", [3]),
        ("env=1&sort=length", [1, 3, 5]),
        ("seed=102", [2]),
        ("flagged=1", []),
    ],
)
def test_episodes_are_filtered_sorted_and_paged(client: TestClient, query: str, expected: list[int]) -> None:
    assert numbers(client, query) == expected


@pytest.mark.parametrize("query", ["return_min=x", "length_max=nan", "limit=nan", "sort=nothing", "offset=--1"])
def test_queries_that_make_no_sense(client: TestClient, query: str) -> None:
    answer = client.get(f"api/episodes?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(query.split("=")[0])


def test_flags_and_the_command_for_them(client: TestClient, directory: Path) -> None:
    for number in (4, 1):
        assert client.post(f"api/episodes/{number}/flag", content="true").json()["flagged"]
    assert numbers(client, "flagged=1") == [1, 4]
    assert get(client, "api/selection?flagged=1") == {
        "count": 2,
        "command": f"vecrollout filter {directory} --episodes 1,4 --out {directory}-selected",
    }
    everything = get(client, "api/selection?return_min=4")["command"]
    assert " --episodes 1-5 " in everything
    client.post("api/episodes/4/flag", content="false")
    assert numbers(client, "flagged=1") == [1]
    assert client.post("api/episodes/99/flag", content="true").status_code == 404
    assert client.post("api/episodes/1/flag", content="{").status_code == 400


def test_the_command_does_not_write_where_something_is(tmp_path: Path) -> None:
    trace = write(tmp_path / "trace", [episode(0, 3)])
    with client_of(trace) as client:
        for expected in ("trace-selected", "trace-selected-2", "trace-selected-3"):
            place = Path(shlex.split(get(client, "api/selection")["command"])[-1])
            assert place == tmp_path / expected
            place.mkdir()


def test_a_path_in_the_command_is_quoted(tmp_path: Path) -> None:
    with client_of(write(tmp_path / "it's $(here)", [episode(0, 3)])) as client:
        command = get(client, "api/selection")["command"]
    assert shlex.split(command)[2] == str(tmp_path / "it's $(here)")


def test_an_episode(client: TestClient) -> None:
    found = get(client, "api/episodes/2")
    assert (found["return"], found["length"], found["ended_by"], found["env"], found["seed"]) == (
        5,
        5,
        "terminated",
        0,
        102,
    )
    assert found["metadata"] == {"by": HOSTILE, "note": HOSTILE}
    assert found["images"] == [{"name": "obs['camera']", "first": 0}]
    curves = {each["name"]: each["y"] for group in found["groups"] for each in group["curves"]}
    assert curves == {
        "rews": [1] * 5,
        "acts": [0, 1, 2, 0, 1],
        "obs['position'][0]": [0, 1, 2, 3, 4, 5],
        "obs['position'][1]": [0, -1, -2, -3, -4, -5],
        "policy_value": [0, 0.5, 1, 1.5, 2],
    }
    assert [group["title"] for group in found["groups"]] == ["Rewards", "Actions", "Observations", "Policy"]


def test_a_step(client: TestClient) -> None:
    found = get(client, "api/episodes/1/steps/4")
    assert found["values"] == {
        "rews": 1,
        "acts": 1,
        "obs['position'][0]": 4,
        "obs['position'][1]": -4,
        "policy_value": 2,
    }
    assert found["info"] == {"policy_value": 2, "note": "at 4"}
    last = get(client, "api/episodes/1/steps/7")
    assert (last["values"], last["info"]) == ({"obs['position'][0]": 7, "obs['position'][1]": -7}, None)
    assert client.get("api/episodes/1/steps/8").status_code == 404
    assert client.get("api/episodes/99/steps/0").status_code == 404


def test_an_image(client: TestClient) -> None:
    for step in (0, 3, 7):
        answer = client.get(f"api/episodes/1/steps/{step}/image", params={"source": "obs['camera']"})
        assert answer.headers["content-type"] == "image/png"
        image = decoded(answer.content, "answer")
        assert image.shape == (12, 16, 3)
        assert (image[:, :, 0] == step).all()
    assert client.get("api/episodes/1/steps/0/image?source=nothing").status_code == 400


@pytest.mark.parametrize(
    ("obs", "shape"),
    [
        (np.zeros((3, 10, 12), np.uint8), (10, 12, 1)),
        (np.zeros((3, 3, 10, 12), np.uint8), (10, 12, 3)),
        (np.zeros((3, 10, 12, 4), np.uint8), (10, 48, 1)),
        (np.zeros((3, 4, 10, 12), np.uint8), (10, 48, 1)),
        (np.full((3, 10, 12, 3), np.nan, np.float32), (10, 12, 3)),
    ],
)
def test_images_of_other_layouts(tmp_path: Path, obs: Any, shape: tuple[int, ...]) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.append(TrajectoryWithRew(obs, np.zeros(2), None, True, rews=np.zeros(2)))
    with client_of(tmp_path) as client:
        answer = client.get("api/episodes/0/steps/2/image?source=obs")
        assert decoded(answer.content, "answer").shape == shape
        assert io.BytesIO(answer.content).read(4) == b"\x89PNG"


def test_a_frame_is_of_the_state_after_so_many_steps(tmp_path: Path) -> None:
    """As `vecrollout record --frames` keeps them; other images of infos are those of the step."""
    image = np.full((9, 9, 3), 1, np.uint8)
    infos = [{"frame": (number + 1) * image, "other": number * image} for number in range(4)]
    infos[0]["first_frame"] = 0 * image
    whole = TrajectoryWithRew(np.zeros((5, 1)), np.zeros(4), np.array(infos), True, rews=np.ones(4))
    write(tmp_path, [cut(whole, 0, 2), cut(whole, 2, 4)])
    frame, other = "infos['frame']", "infos['other']"
    with client_of(tmp_path) as client:

        def shown(number: int, step: int, source: str) -> int:
            answer = client.get(f"api/episodes/{number}/steps/{step}/image", params={"source": source})
            return int(decoded(answer.content, "answer").max())

        assert get(client, "api/episodes/0")["images"] == [{"name": frame, "first": 0}, {"name": other, "first": 0}]
        assert [shown(0, step, frame) for step in range(3)] == [0, 1, 2]
        assert [shown(0, step, other) for step in range(3)] == [0, 1, 1]
        # The frame of a fragment's first state is not in it.
        assert get(client, "api/episodes/1")["images"] == [{"name": frame, "first": 1}, {"name": other, "first": 0}]
        assert [shown(1, step, frame) for step in (1, 2)] == [3, 4]
        assert client.get(f"api/episodes/1/steps/0/image?source={frame}").status_code == 400


def test_a_peak_of_a_long_episode_is_drawn(tmp_path: Path) -> None:
    steps = 50_000
    rews = np.zeros(steps)
    rews[31_234] = 7
    with TraceWriter(tmp_path) as writer:
        writer.append(TrajectoryWithRew(np.zeros((steps + 1, 2)), np.zeros(steps), None, True, rews=rews))
    with client_of(tmp_path) as client:
        (curve,) = get(client, "api/episodes/0")["groups"][0]["curves"]
    assert len(curve["x"]) == len(curve["y"]) <= 2000
    assert [at for at, value in zip(curve["x"], curve["y"], strict=True) if value] == [31_234]


def test_many_dimensions_come_on_request(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.append(TrajectoryWithRew(np.zeros((3, 40)), np.zeros(2), None, True, rews=np.zeros(2)))
    with client_of(tmp_path) as client:
        few, every = (get(client, f"api/episodes/0{query}")["groups"][2] for query in ("", "?all=1"))
    assert (len(few["curves"]), few["left_out"]) == (12, 28)
    assert (len(every["curves"]), every["left_out"]) == (40, 0)


def test_values_that_json_has_no_form_for(tmp_path: Path) -> None:
    info = {
        "nan": float("nan"),
        "big": 2**70,
        "surrogate": "\ud800",
        "array": np.arange(1000),
        "nested": {"deep": [{"set": (1, 2)}]},
        "long": "x" * 100_000,
        "bytes": b"\x00",
        "many": {f"key {i}": i for i in range(500)},
    }
    with TraceWriter(tmp_path) as writer:
        writer.append(TrajectoryWithRew(np.full((2, 1), np.nan), np.zeros(1), [info], True, rews=np.array([np.inf])))
    with client_of(tmp_path) as client:
        found = get(client, "api/episodes/0/steps/0")
        assert len(json.dumps(found)) < 60_000
        assert found["values"]["rews"] is None
        assert found["info"]["big"] == str(2**70)
        assert len(found["info"]["many"]) == 101
        assert found["info"]["nested"] == {"deep": [{"set": [1, 2]}]}
        for path in ("api/episodes", "api/episodes/0", "api/overview", "api/columns"):
            get(client, path)


def test_text_and_graphs_have_no_curves(tmp_path: Path) -> None:
    obs = np.array(["a", "b", "c"], dtype=object)
    with TraceWriter(tmp_path) as writer:
        writer.append(TrajectoryWithRew(obs, np.zeros(2), None, True, rews=np.zeros(2)))
    with client_of(tmp_path) as client:
        assert [group["title"] for group in get(client, "api/episodes/0")["groups"]] == ["Rewards", "Actions"]
        get(client, "api/columns")


def test_a_trace_that_vanishes(tmp_path: Path) -> None:
    directory = write(tmp_path / "trace", [episode(0, 3)])
    with client_of(directory) as client:
        shutil.rmtree(directory)
        answer = client.get("api/status")
        assert (answer.status_code, answer.json()["kind"]) == (400, "TraceNotFoundError")


def test_an_empty_trace(tmp_path: Path) -> None:
    with client_of(tmp_path) as client:
        assert get(client, "api/overview")["trajectories"] == 0
        assert get(client, "api/episodes")["rows"] == []
        assert get(client, "api/columns")["steps"] == []
        assert client.get("api/episodes/0").status_code == 404
        assert get(client, "api/selection") == {"count": 0, "command": None}


def test_a_trace_that_grows(tmp_path: Path) -> None:
    """A flag stays with its episode, which moves to another number."""
    with TraceWriter(tmp_path) as writer, client_of(tmp_path) as client:
        writer.append(episode(5, 4))
        writer.flush()
        wait_for(client, 1)
        client.post("api/episodes/0/flag", content="true")
        # It began earlier, and ended later.
        writer.append(episode(3, 20))
        writer.flush()
        wait_for(client, 2)
        assert get(client, "api/status")["is_live"]
        assert [(row["length"], row["flagged"]) for row in get(client, "api/episodes")["rows"]] == [
            (20, False),
            (4, True),
        ]
        assert get(client, "api/overview")["trajectories"] == 2


def wait_for(client: TestClient, trajectories: int) -> None:
    # Each request is a look at the files, at most a few a second.
    while get(client, "api/status")["trajectories"] < trajectories:
        pass


def test_fragments_are_counted_once(tmp_path: Path) -> None:
    whole = episode(0, 10)
    parts = [
        TrajectoryWithRew(
            {key: value[start : stop + 1] for key, value in whole.obs.items()},  # type: ignore[union-attr]
            whole.acts[start:stop],
            None,
            stop == 10,
            rews=np.ones(stop - start),
            episode=Episode(0, 0, start, ended_by="terminated" if stop == 10 else None, recording="r"),
        )
        for start, stop in ((0, 4), (4, 10))
    ]
    with TraceWriter(tmp_path) as writer:
        for part in parts:
            writer.append(part)
    with client_of(tmp_path) as client:
        found = get(client, "api/overview")
        assert (found["trajectories"], found["whole_episodes"]) == (2, 1)
        assert found["statistics"][0]["max"] == 10
        assert [row["start_step"] for row in get(client, "api/episodes")["rows"]] == [0, 4]


@pytest.mark.slow
def test_many_episodes_are_paged_and_thinned(tmp_path: Path) -> None:
    count = 100_000
    lengths = np.ones(count, np.int64)
    with TraceWriter(tmp_path) as writer:
        obs, rews = np.zeros((2 * count, 1)), np.arange(count, dtype=np.float64)
        writer.extend(TrajectoryBatch.from_arrays(obs, np.zeros(count), rews, lengths=lengths))
    with client_of(tmp_path) as client:
        page = get(client, "api/episodes?sort=return_&descending=1&offset=50")
        assert page["matching"] == count
        assert [row["number"] for row in page["rows"]] == list(range(count - 51, count - 101, -1))
        assert len(get(client, "api/episodes?return_min=99990")["rows"]) == 10
        over = get(client, "api/overview")["over_recording"]["return"]
        assert over["is_thinned"]
        assert len(over["value"]) <= 1300
        assert {0.0, float(count - 1)} <= set(over["value"]), "no peak is lost"
        assert len(client.get("api/overview").content) < 200_000
        assert get(client, "api/selection?return_min=99990")["command"].split()[4] == "99990-99999"
