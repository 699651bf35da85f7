"""Lakes that are broken on purpose, to show that the soak sees it: one rule of the protocols taken away each."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import boto3

from tarn import templates

FUNCTIONS = templates.ROOT / "functions"
DELETE = '        queues.delete(self.clients.sqs, str(registration["queue_url"]), done)\n'
COMMIT = "        committed = bool(won) and self.commit(batch, registration, won)\n"
CONDITION = "            condition=_is_new(created) | _is_judged_anew(created.sequencer, verdict.state),\n"
CHANGES: dict[str, tuple[str, dict[str, str]]] = {
    "delete_before_commit": (
        "lake/claim.py",
        {DELETE: "", COMMIT: DELETE.replace("done", "[one.receipt for one in received]") + COMMIT},
    ),
    "write_unconditionally": ("lake/catalog.py", {CONDITION: ""}),
}
"""start_batch deletes the messages it received and commits then; the router writes what an event says, whatever stands
in the object catalog. Of a file of ``functions/``: what stands there once, and what stands instead."""
PUBLISH_BEFORE_AUDIT = "publish_before_audit"
MUTANTS = (*CHANGES, PUBLISH_BEFORE_AUDIT)


def apply(mutant: str) -> None:
    """Break the lake that stands."""
    if mutant == PUBLISH_BEFORE_AUDIT:
        _publish_before_audit()
    else:
        _redeploy(*CHANGES[mutant])


def mutated(file: str, changes: dict[str, str]) -> str:
    """The file's text with the changes in it."""
    text = (FUNCTIONS / file).read_text()
    for stands, instead in changes.items():
        assert text.count(stands) == 1, f"{file} no longer has {stands!r}"
        text = text.replace(stands, instead)
    return text


def _publish_before_audit() -> None:
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


def _machines(states: Any) -> list[str]:
    pages = states.get_paginator("list_state_machines").paginate()
    return [one["stateMachineArn"] for page in pages for one in page["stateMachines"]]


def _redeploy(file: str, changes: dict[str, str]) -> None:
    """Give every function of the lake a copy of ``functions/`` with one file changed."""
    text = mutated(file, changes)
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
