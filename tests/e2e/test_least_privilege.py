"""Least privilege, proven: without any part of any policy of the lake, something that it asked for would be denied.

This file runs last. By then the demo, the failures and the registrations have made the lake's roles ask for what they
need; each question was recorded with its answer. Every role's policies are then taken apart, an action, a resource, a
value of a condition at a time, and the same evaluator answers the same questions again.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.e2e import authorization
from tests.e2e.authorization import Judge, Question, Role, Unseen

ROOT = "tarn-local"
NOT_ASKED = "nothing here asks who writes logs and traces (of functions: tests/templates/test_functions.py)"
TABLE_KEY = "DynamoDB asks it of who uses a table with a key of one's own (developer guide, encryption at rest)"
HEAD = "without it S3 answers a HEAD of what is not there with 403, and here with 404"
PARTS = "what is larger than a part is uploaded in parts, and a commit that failed is cleaned up: all is small here"
QUEUE_TOO = "the queue's policy names the role as it was when the dataset was deployed; this holds when it is replaced"
CATALOG = "Glue asks for the catalog, the database and the table of a call; here it is asked for one of them"
CRAWL = "the crawl here makes fewer calls than Glue's, and always of one schema"
AGAIN = "for a second try after a crash, which the tests of the protocol have and the lake does not"
STOPPED = "asked for where a job still runs when its execution is stopped (test_local_glue_jobs.py)"
AS_TIME_HAS_IT = {AGAIN, STOPPED, QUEUE_TOO}
"""What one run of all the tests needs and the next does not: machines are busy, or a queue is gone with its policy."""


UNSEEN = (
    Unseen("*", "WriteItsLog", "*", NOT_ASKED),
    Unseen("*", "SendTraces", "*", NOT_ASKED),
    Unseen(
        "*StateMachineRole", "DeliverItsLog", "*", "AWS lists them for the logs of state machines; nothing here asks"
    ),
    Unseen("*BatchJobRole", "WriteItsLogs", "logs:AssociateKmsKey", "Glue gives the groups that it makes the key"),
    Unseen("FinishBatchRole", "UseTheKeyOfZonesAndTables", "kms:GenerateDataKey", TABLE_KEY),
    Unseen("RouteObjectRole", "UseTheKeyOfZonesTablesAndQueue", "kms:GenerateDataKey", TABLE_KEY),
    Unseen("*BatchJobRole", "FindTheBuckets", "s3:GetBucketLocation", "Glue looks for a bucket's region; here is one"),
    Unseen("*BatchJobRole", "UseTheKeysOfZonesTablesAndTeam", "arn:aws:kms:*", "of the security configuration"),
    Unseen("JudgeBatchJobRole", "ListTheTeamsRecordsOfBatches", "s3:ListBucket", HEAD),
    Unseen("TransformBatchJobRole", "ListTheTeamsStagedObjects", "s3:ListBucket", HEAD),
    Unseen("*BatchJobRole", "ListWhatIsPending", "*/_pending", "S3A may ask for a folder without a slash"),
    Unseen("TransformBatchJobRole", "CleanUpUploadsOfItsCommitter", "*", PARTS),
    Unseen("TransformBatchJobRole", "WriteWhatIsPending", "s3:DeleteObject", PARTS),
    Unseen("TransformBatchJobRole", "WriteWhatIsPending", "s3:AbortMultipartUpload", PARTS),
    Unseen("TransformBatchJobRole", "WriteWhatIsPending", "s3:ListMultipartUploadParts", PARTS),
    Unseen("PublishBatchRole", "MakeThePublishedPrefixEqual", "s3:AbortMultipartUpload", PARTS),
    Unseen("PublishBatchRole", "KeepTheTeamsTables", "arn:aws:glue:*", CATALOG),
    Unseen("VerifyCrawlRole", "LookForPartitionsAndKeepTheView", "glue:UpdateTable", "the view of columns that stay"),
    Unseen("VerifyCrawlRole", "LookForPartitionsAndKeepTheView", "arn:aws:glue:*", CATALOG),
    *(
        Unseen("CrawlerRole", "KeepTablesAndPartitionsOfTheTeam", f"glue:{action}", CRAWL)
        for action in ("UpdateTable", "GetPartition", "GetPartitions", "CreatePartition", "UpdatePartition")
    ),
    Unseen("CrawlerRole", "KeepTablesAndPartitionsOfTheTeam", "glue:BatchUpdatePartition", CRAWL),
    Unseen("CrawlerRole", "KeepTablesAndPartitionsOfTheTeam", "arn:aws:glue:*", CATALOG),
    Unseen(
        "CrawlerRole", "WhatIsPendingAndWhatAthenaAnsweredIsNotPublished", "*", "a guard: it denies what is not asked"
    ),
    Unseen("CrawlerRole", "WriteItsLogs", "logs:AssociateKmsKey", "Glue gives the groups that it makes the key"),
    Unseen("PublishBatchRole", "KeepTheTeamsTables", "glue:BatchUpdatePartition", AGAIN),
    Unseen("PublishBatchRole", "WhatWasAuditedStaysAsItIs", "*", "a guard: it denies what no code tries"),
    Unseen("RecordOutcomesRole", "TellTheQueuesOfTheTeamsDatasets", "*", QUEUE_TOO),
    Unseen("StartBatchRole", "TakeMessagesOfTheTeamsDatasets", "*", QUEUE_TOO),
    Unseen("RouteObjectRole", "BeToldThatNothingIsThere", "*", HEAD),
    Unseen("StageToAnalyticsStateMachineRole", "RunTheJobs*", "glue:GetJobRuns", "Step Functions' own list for .sync"),
    Unseen("StageToAnalyticsStateMachineRole", "RunTheJobs*", "glue:BatchStopJobRun", STOPPED),
    Unseen(
        "StageToAnalyticsStateMachineRole", "BeToldOfTheEndOfJobs", "*", "Step Functions makes them for other engines"
    ),
    Unseen("StartBatchRole", "ClaimStagedObjectsOfTheTeam", "dynamodb:GetItem", AGAIN),
    Unseen("StartBatchRole", "KeepBatchesOfTheTeam", "dynamodb:GetItem", AGAIN),
    Unseen("TransformObjectsRole", "SeeWhetherAVersionIsGone", "*", "S3 answers 403, and here 404"),
)


@pytest.fixture(scope="module")
def roles(demo) -> list[Role]:
    return authorization.roles(demo.session, ROOT)


@pytest.fixture(scope="module")
def questions(demo) -> list[Question]:
    return authorization.recorded(demo.state)


@pytest.fixture(scope="module")
def judge(demo) -> Judge:
    return Judge(demo.session)


def test_every_user_of_a_role_has_one_of_these(demo, roles) -> None:
    """Nothing of the lake acts as a role that the proof does not see."""
    glue, functions, states = (demo.session.client(name) for name in ("glue", "lambda", "stepfunctions"))
    look = {
        "AWS::Lambda::Function": lambda name: functions.get_function_configuration(FunctionName=name)["Role"],
        "AWS::StepFunctions::StateMachine": lambda arn: states.describe_state_machine(stateMachineArn=arn)["roleArn"],
        "AWS::Glue::Job": lambda name: glue.get_job(JobName=name)["Job"]["Role"],
        "AWS::Glue::Crawler": lambda name: glue.get_crawler(Name=name)["Crawler"]["Role"],
    }
    users = {
        one["LogicalResourceId"]: look[one["ResourceType"]](one["PhysicalResourceId"]).rpartition("/")[2]
        for one in authorization.resources(demo.session, ROOT)
        if one["ResourceType"] in look
    }
    assert len(users) >= 14
    names = {role.arn.rpartition("/")[2] for role in roles}
    assert {user for user, name in users.items() if name not in names} == set()


def test_the_evaluator_says_again_what_it_said(judge, roles, questions) -> None:
    """Else what follows would prove something about another lake."""
    asked = authorization.asked_by(questions)
    assert sum(map(len, asked.values())) > 500
    changed = [one for role in roles for one in asked[role.arn] if judge.allows(role, one) != one.is_allowed]
    assert changed == []


@pytest.mark.slow  # it needs every other end-to-end test to have asked its questions
def test_every_part_of_every_policy_is_needed(judge, roles, questions) -> None:
    spare = judge.spare_parts_of_all(roles, questions)
    unexplained, stale = authorization.without_need(spare, UNSEEN, AS_TIME_HAS_IT)
    assert not unexplained, f"nothing needs this: take it away, or say in UNSEEN why it stays\n{unexplained}"
    assert not stale, f"this is needed now: take it out of UNSEEN\n{stale}"


@pytest.mark.parametrize("action", ["dynamodb:DescribeTable", "dynamodb:GetItem"])
def test_what_is_planted_is_found(judge, roles, questions, action) -> None:
    """An action that nobody asks for, and one that another statement allows already."""
    honest = next(role for role in roles if role.logical_id == "RecordOutcomesRole")
    like = next(one for one in honest.statements if "dynamodb:GetItem" in one["Action"])
    planted = replace(honest, statements=(*honest.statements, {**like, "Sid": "Planted", "Action": [action]}))
    asked = authorization.asked_by(questions)[honest.arn]
    assert "Planted" in {part.sid for part in judge.spare_parts(planted, asked)}
    widened = {**like, "Sid": "Planted", "Action": [*authorization.listed(like["Action"]), "dynamodb:DescribeTable"]}
    less = tuple(one for one in honest.statements if one is not like)
    found = judge.spare_parts(replace(honest, statements=(*less, widened)), asked)
    assert [(one.kind, one.text) for one in found if one.sid == "Planted"] == [("Action", "dynamodb:DescribeTable")]


def test_what_is_taken_away_is_missed(judge, roles, questions) -> None:
    """The proof sees a need: without its statement, a role is denied what it was allowed."""
    honest = next(role for role in roles if role.logical_id == "RecordOutcomesRole")
    kept = tuple(one for one in honest.statements if one["Sid"] != "KeepRowsOfTheTeamsObjects")
    written = [one for one in authorization.asked_by(questions)[honest.arn] if one.action == "dynamodb:PutItem"]
    assert written
    assert not any(judge.allows(replace(honest, statements=kept), one) for one in written)
