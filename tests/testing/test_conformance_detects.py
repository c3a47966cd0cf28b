"""The conformance suite fails where a recorder has a fault, and only there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FAULTY = Path(__file__).with_name("faulty_recorders.py")

# Of each faulty recorder, tests of the suite that have to fail, and one that has not.
FAULTS = {
    "LosingLastObservations": (
        {"trajectories_are_what_happened", "transitions_are_what_happened"},
        "nothing_was_recorded",
    ),
    "ForgettingTruncation": (
        {"trajectories_are_what_happened", "transitions_are_what_happened"},
        "infos_can_be_left_out",
    ),
    "WithFloat64Rewards": ({"trajectories_are_what_happened", "actions_are_those_taken"}, "infos_can_be_left_out"),
    "KeepingReferences": ({"actions_are_those_taken", "reused_action_array"}, "transitions_are_what_happened"),
    "Sorting": ({"trajectories_are_what_happened"}, "transitions_are_what_happened"),
    "Miscounting": ({"finished_trajectories_leave_the_running_ones"}, "nothing_was_recorded"),
    "DroppingWhatRuns": ({"finished_trajectories_leave_the_running_ones"}, "trajectories_are_what_happened"),
    "NeverRefusing": ({"premature_reset_is_refused"}, "premature_reset_closes_what_runs"),
    "Sinkless": ({"sink_takes_what_is_finished_at_once", "what_a_sink_refuses_stays_held"}, "nothing_was_recorded"),
    "Unbounded": ({"max_transitions_refuses_a_step", "max_transitions_drops_the_oldest"}, "nothing_was_recorded"),
    "Stateless": ({"state_goes_through_a_file"}, "nothing_was_recorded"),
}


@pytest.fixture(scope="module")
def failed() -> dict[str, set[str]]:
    """Names of the tests that failed, by recorder."""
    concerned = {test for expected, unaffected in FAULTS.values() for test in (*expected, unaffected)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(FAULTY),
        "-q",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
        "-rfE",
        "-k",
        " or ".join(concerned),
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert "error" not in output.splitlines()[-1], output
    found = re.findall(r"^FAILED \S*::Test(\w+)::test_(\w+)", output, re.MULTILINE)
    assert found, output
    return {recorder: {test for name, test in found if name == recorder} for recorder in {name for name, _ in found}}


@pytest.mark.parametrize("recorder", FAULTS)
def test_a_fault_is_found(failed, recorder):
    expected, unaffected = FAULTS[recorder]
    assert expected <= failed[recorder]
    assert unaffected not in failed[recorder]


def test_no_fault_is_found_where_there_is_none(failed):
    assert failed.keys() == FAULTS.keys()
