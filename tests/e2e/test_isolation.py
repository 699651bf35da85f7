"""Two teams in one lake: role by role, and whatever a role's policies say, one does not reach the other's things."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import authorization, trespass
from tests.e2e.trespass import Actor, Attempt, Belongings

ROOT = "tarn-local"
ROUTERS = {"RouteObjectFunction", "RouteUnroutedFunction"}
ANYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}
# What no role of a team does, not even with its own: the objects and rows that others write, and what knows no key.
NOBODYS = {
    *("write an object of raw", "delete an object of raw", "list raw"),
    *("delete an object of stage", "list versions of stage", "list versions of analytics"),
    *("query objects", "delete a row of objects", "delete a row of batches"),
    *(f"{verb} {table}" for verb in ("scan", "select from") for table in ("objects", "datasets", "batches")),
    *(
        f"{verb} rows of {table}, one of them one's own"
        for verb in ("get", "delete")
        for table in ("datasets", "batches")
    ),
}
# What no boundary can tell apart: an execution carries no tag, and its machine is named by CloudFormation.
BEYOND_THE_BOUNDARY = {"look at an execution"}


@pytest.fixture(scope="module")
def air(demo) -> Belongings:
    return trespass.belongings(demo.session, ROOT, "air")


@pytest.fixture(scope="module")
def sky(demo) -> Belongings:
    return trespass.belongings(demo.session, ROOT, "sky")


@pytest.fixture(scope="module")
def actors(demo, sky) -> dict[str, Actor]:
    """A session of each role of team sky, by the role's logical id."""
    acting = {}
    for one in authorization.roles(demo.session, ROOT, "sky"):
        with trespass.acting_as(demo.session, one.arn) as session:
            acting[one.logical_id] = session
    assert len(acting) >= 11
    return acting


@pytest.fixture
def unbounded(demo) -> Iterator[Actor]:
    """A role of team sky whose own policy allows everything: its boundary is all that holds it."""
    iam, name = demo.session.client("iam"), "isolation-unbounded"
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    boundary = demo.lake.contract.team("sky", "boundary/arn")
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust), PermissionsBoundary=boundary)
    iam.put_role_policy(RoleName=name, PolicyName="anything", PolicyDocument=document(ANYTHING))
    try:
        with trespass.acting_as(demo.session, made["Role"]["Arn"]) as actor:
            yield actor
    finally:
        iam.delete_role_policy(RoleName=name, PolicyName="anything")
        iam.delete_role(RoleName=name)


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def test_no_role_reaches_another_teams_things(actors, air, sky) -> None:
    reached = {
        f"{name} may {attempt.name}: {attempt.arguments}"
        for name, actor in actors.items()
        for attempt in (*trespass.attempts(air, mine=sky), *trespass.starts(air))
        if actor.may(attempt)
    }
    assert reached == set()


def test_each_of_these_attempts_would_be_allowed_to_somebody_on_his_own_things(actors, sky) -> None:
    """Else the test above could pass because everything is denied."""
    tried = list(trespass.attempts(sky, mine=sky))
    allowed = {one.name for one in tried if any(actor.may(one) for actor in actors.values())}
    assert {one.name for one in tried} - allowed == NOBODYS


def test_the_boundary_alone_keeps_a_role_from_another_teams_things(unbounded, air, sky) -> None:
    tried = [*trespass.attempts(air, mine=sky), *trespass.starts(air)]
    reached = {
        f"{one.name}: {one.arguments}" for one in tried if one.name not in BEYOND_THE_BOUNDARY and unbounded.may(one)
    }
    assert reached == set()
    own = list(trespass.attempts(sky, mine=sky))
    assert {one.name for one in own if not unbounded.may(one)} == {
        f"{verb} {table}" for verb in ("scan", "select from") for table in ("objects", "datasets", "batches")
    }


def test_the_key_of_the_zones_is_used_through_them_alone(demo, unbounded) -> None:
    """The foundations' key opens what S3 and DynamoDB let through, and nothing by itself."""
    key = demo.lake.contract.foundations("key/arn")
    secret = demo.session.client("kms").encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    assert not unbounded.may(Attempt("decrypt", "kms", "decrypt", {"CiphertextBlob": secret}))
    key = {"team": {"S": "sky"}, "dataset": {"S": "none"}}
    row = {"TableName": demo.lake.contract.foundations("datasets-table/name"), "Key": key}
    assert unbounded.may(Attempt("get a row", "dynamodb", "get_item", row))


def test_no_role_of_a_team_calls_what_routes_everybodys_objects(demo, unbounded) -> None:
    functions = [one for one in authorization.resources(demo.session, ROOT) if one["LogicalResourceId"] in ROUTERS]
    assert len(functions) == len(ROUTERS)
    for one in functions:
        call = {"FunctionName": one["PhysicalResourceId"], "InvocationType": "DryRun"}
        assert not unbounded.may(Attempt("call a function", "lambda", "invoke", call))
    queue = {"QueueUrl": demo.lake.contract.foundations("ingest-queue/url"), "Entries": []}
    assert not unbounded.may(Attempt("send a message", "sqs", "send_message_batch", queue))
