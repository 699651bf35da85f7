"""Lakes that are broken on purpose, to show that the soak sees it: one rule of the protocols taken away each."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3

from tarn import templates
from tarn.lake import Lake

FUNCTIONS = templates.ROOT / "functions"
DELETE = '        queues.delete(self.clients.sqs, str(registration["queue_url"]), done)\n'
COMMIT = "        committed = bool(won) and self.commit(batch, registration, won)\n"
NEW_ONLY = "            condition=_is_new(created) | _is_judged_anew(created.sequencer, verdict.state),\n"


def apply(mutant: str, lake: Lake) -> None:
    """Break the lake that stands."""
    MUTANTS[mutant](lake)


def delete_before_commit(_lake: Lake) -> None:
    """start_batch deletes the messages it received, and commits then."""
    early = DELETE.replace("done", "[one.receipt for one in received]")
    _redeploy("lake/claim.py", {DELETE: "", COMMIT: early + COMMIT})


def write_unconditionally(_lake: Lake) -> None:
    """The router writes what an event says, whatever stands in the object catalog."""
    _redeploy("lake/catalog.py", {NEW_ONLY: ""})


def publish_before_audit(_lake: Lake) -> None:
    """The second hop publishes what the transform wrote, and judges it then."""
    states = boto3.client("stepfunctions")
    for one in _machines(states):
        machine = states.describe_state_machine(stateMachineArn=one)
        definition = json.loads(machine["definition"])
        if "JudgeBatch" not in definition["States"]:
            continue
        definition["States"]["PublishEarly"] = {**definition["States"]["PublishBatch"], "Next": "HasRules"}
        definition["States"]["VerifyTransform"]["Next"] = "PublishEarly"
        states.update_state_machine(stateMachineArn=one, definition=json.dumps(definition))


MUTANTS: dict[str, Callable[[Lake], None]] = {
    one.__name__: one for one in (delete_before_commit, write_unconditionally, publish_before_audit)
}


def _machines(states: Any) -> list[str]:
    pages = states.get_paginator("list_state_machines").paginate()
    return [one["stateMachineArn"] for page in pages for one in page["stateMachines"]]


def _redeploy(file: str, changes: dict[str, str]) -> None:
    """Give every function of the lake a copy of ``functions/`` with one file changed."""
    text = (FUNCTIONS / file).read_text()
    for stands, instead in changes.items():
        assert text.count(stands) == 1, f"{file} no longer has {stands!r}"
        text = text.replace(stands, instead)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(FUNCTIONS.rglob("*.py")):
            name = path.relative_to(FUNCTIONS)
            archive.writestr(str(name), text if name == Path(file) else path.read_text())
    functions = boto3.client("lambda")
    for page in functions.get_paginator("list_functions").paginate():
        for one in page["Functions"]:
            if one["Handler"].split(".")[0] in ("foundations", "pipeline"):
                functions.update_function_code(FunctionName=one["FunctionName"], ZipFile=packed.getvalue())
