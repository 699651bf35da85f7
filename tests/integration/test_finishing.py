"""The proof of work, and how an attempt ends, in moto."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from lake import batches, clock, finishing, names, outcomes, publishing, waiting
from lake.batches import NotInStateError
from lake.outcomes import OutcomeMismatchError, OutcomeMissingError
from tests.integration.tables import Lake, open_lake

NOW = datetime(2026, 11, 23, 16, 44, tzinfo=UTC)
TEAM, DATASET, BATCH_ID = "air", "flights", "20261123t164400-0123456789ab"
STAGED = [f"s3://stage/air/flights/{name}.csv~0.parquet" for name in "abc"]
TRANSFORM_ANSWER = {"run_id": "jr_t", "rows_in": 5, "rows_out": 4, "files": 1}
RULES = [
    {"rule": "RowCount > 3", "outcome": "Passed", "reason": None, "metrics": {"RowCount": 4.0}},
    {"rule": 'IsComplete "carrier"', "outcome": "Passed", "reason": "", "metrics": {"Completeness": 1.0}},
]
BROKEN = {"rule": 'Mean "hour" > 30', "outcome": "Failed", "reason": "Value: NaN", "metrics": {"Mean": float("nan")}}


@pytest.fixture(scope="module")
def opened() -> Iterator[Lake]:
    with open_lake() as one:
        yield one


@pytest.fixture
def lake(opened) -> Lake:
    """The lake while the batch is in flight, and nothing else is in it."""
    for bucket in (opened.stage_bucket, opened.analytics_bucket):
        for one in outcomes.list_files(opened.s3, bucket, ""):
            opened.s3.delete_object(Bucket=bucket, Key=one.key)
    for one in opened.objects.scan()["Items"]:
        opened.objects.delete_item(Key={"id": one["id"]})
    opened.datasets.delete_item(Key=waiting.tick_key(TEAM, DATASET))
    opened.batches.put_item(
        Item={
            **batches.row_key(TEAM, DATASET, BATCH_ID),
            "team": TEAM,
            "dataset": DATASET,
            "attempt": 1,
            "state": "STARTED",
            "unfinished": "air#flights",
        }
    )
    for identity in STAGED:
        opened.objects.put_item(Item={"id": identity, "state": "BATCHED", "batch_id": BATCH_ID})
    return opened


def run_of(lake: Lake, attempt: int = 1) -> dict[str, Any]:
    base = f"s3://{lake.stage_bucket}/{names.attempt_prefix(TEAM, DATASET, BATCH_ID, attempt)}"
    return {
        "schema": 1,
        "team": TEAM,
        "dataset": DATASET,
        "batch_id": BATCH_ID,
        "attempt": attempt,
        "manifest_uri": f"s3://{lake.stage_bucket}/{names.manifest_key(TEAM, DATASET, BATCH_ID)}",
        "pending_uri": f"s3://{lake.analytics_bucket}/{names.pending_prefix(TEAM, BATCH_ID, attempt)}",
        "transform_outcome_uri": f"{base}transform.json",
        "quality_outcome_uri": f"{base}quality.json",
        "has_rules": True,
    }


def put(lake: Lake, uri: str, value: Any) -> None:
    bucket, key = names.split_object_id(uri)
    lake.s3.put_object(Bucket=bucket, Key=key, Body=value if isinstance(value, bytes) else json.dumps(value).encode())


def prove_transform(lake: Lake, **changes: Any) -> None:
    run = run_of(lake)
    _, prefix = names.split_object_id(run["pending_uri"])
    put(lake, f"{run['pending_uri']}part-0.parquet", b"data")
    outcome = {
        "schema": 1,
        "job": "transform",
        "run_id": "jr_t",
        "batch_id": BATCH_ID,
        "attempt": 1,
        "rows_in": 5,
        "rows_out": 4,
        "columns": [{"name": "hour", "type": "int"}],
        "files": [f"{prefix}part-0.parquet"],
    }
    put(lake, run["transform_outcome_uri"], outcome | changes)


def prove_quality(lake: Lake, policy: str = "block", rules: list[dict[str, Any]] | None = None, **changes: Any) -> None:
    run, rules = run_of(lake), RULES if rules is None else rules
    registration = {"on_quality_failure": policy}
    objects = [{"id": identity} for identity in STAGED]
    put(lake, run["manifest_uri"], {"schema": 1, "registration": registration, "objects": objects})
    outcome = {
        "schema": 1,
        "job": "quality",
        "run_id": "jr_q",
        "batch_id": BATCH_ID,
        "attempt": 1,
        "rows": 4,
        "passed": all(one["outcome"] == "Passed" for one in rules),
        "rules": rules,
    }
    put(lake, run["quality_outcome_uri"], outcome | changes)


def verify(lake: Lake, job: str, run_id: str) -> dict[str, Any]:
    handler = importlib.reload(importlib.import_module("pipeline.verify_outcome")).handler
    event = {"job": job, "run": run_of(lake), "run_id": run_id, "transform": TRANSFORM_ANSWER}
    return dict(handler(event, None))


# --- verify_outcome


def test_the_outcome_of_this_run_is_believed(lake) -> None:
    prove_transform(lake)
    assert verify(lake, "transform", "jr_t") == TRANSFORM_ANSWER


def test_a_job_that_succeeded_without_an_outcome_is_not(lake) -> None:
    with pytest.raises(OutcomeMissingError):
        verify(lake, "transform", "jr_t")


@pytest.mark.parametrize(
    "changes",
    [{"run_id": "jr_old"}, {"attempt": 2}, {"batch_id": "another"}, {"schema": 2}, {"job": "quality"}],
    ids=lambda changes: next(iter(changes)),
)
def test_the_outcome_of_anything_else_is_not(lake, changes) -> None:
    prove_transform(lake, **changes)
    with pytest.raises(OutcomeMismatchError, match=next(iter(changes))):
        verify(lake, "transform", "jr_t")


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff\xfe"])
def test_neither_is_what_is_no_outcome(lake, text) -> None:
    put(lake, run_of(lake)["transform_outcome_uri"], text)
    with pytest.raises(OutcomeMismatchError):
        verify(lake, "transform", "jr_t")


@pytest.mark.parametrize("changes", [{"rows_out": None}, {"files": None}, {"columns": [{}]}, {"files": []}])
def test_neither_is_an_outcome_with_holes(lake, changes) -> None:
    prove_transform(lake, **changes)
    with pytest.raises(OutcomeMismatchError):
        verify(lake, "transform", "jr_t")


def test_a_verdict_that_passed(lake) -> None:
    prove_quality(lake)
    answer = verify(lake, "quality", "jr_q")
    assert answer == {"run_id": "jr_q", "outcome": "passed", "rules": 2, "failed": 0, "blocked": False}


@pytest.mark.parametrize(("policy", "blocked"), [("block", True), ("warn", False), ("typing error", True)])
@pytest.mark.parametrize("outcome", ["Failed", "Error"])
def test_a_verdict_that_failed_blocks_unless_the_dataset_says_warn(lake, policy, blocked, outcome) -> None:
    prove_quality(lake, policy, [*RULES, BROKEN | {"outcome": outcome}])
    answer = verify(lake, "quality", "jr_q")
    assert (answer["outcome"], answer["blocked"], answer["failed"]) == ("failed", blocked, 1)
    assert answer["first_failed"]["rule"] == BROKEN["rule"]
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize(
    "changes",
    [{"rows": 3}, {"rules": [], "passed": True}, {"passed": False}, {"passed": "yes"}, {"run_id": "jr_t"}],
    ids=["other rows", "no rule", "passed and not", "not a verdict", "another run"],
)
def test_a_verdict_that_does_not_hold_is_refused(lake, changes) -> None:
    prove_quality(lake, **changes)
    with pytest.raises(OutcomeMismatchError):
        verify(lake, "quality", "jr_q")


def test_a_verdict_that_passed_while_a_rule_failed_is_refused(lake) -> None:
    prove_quality(lake, rules=[*RULES, BROKEN], passed=True)
    with pytest.raises(OutcomeMismatchError, match="1 rules were not met"):
        verify(lake, "quality", "jr_q")


# --- finish_batch


def finish(lake: Lake, monkeypatch, state: str, **event: Any) -> dict[str, Any]:
    monkeypatch.setenv("BATCHES_TABLE_NAME", lake.batches.name)
    monkeypatch.setenv("OBJECTS_TABLE_NAME", lake.objects.name)
    monkeypatch.setenv("DATASETS_TABLE_NAME", lake.datasets.name)
    monkeypatch.setenv("ENVIRONMENT_NAME", "dev")
    monkeypatch.setenv("PIPELINE_NAME", "main")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    handler = importlib.reload(importlib.import_module("pipeline.finish_batch")).handler
    given = {"state": state, "run": run_of(lake, event.pop("attempt", 1)), "transform": TRANSFORM_ANSWER, **event}
    return dict(handler(given, None))


def prove_published(lake: Lake, files: dict[str, int], deleted: tuple[str, ...] = (), attempt: int = 1) -> None:
    run = outcomes.Run.parse(run_of(lake, attempt))
    receipt = {
        "schema": 1,
        "at": "2026-11-23T16:44:00.000Z",
        "files": [{"key": key, "size": size} for key, size in files.items()],
        "partitions": [],
        "deleted": list(deleted),
    }
    put(lake, publishing.receipt_uri(run), receipt)


def row(lake: Lake) -> dict[str, Any]:
    return dict(lake.batches.get_item(Key=batches.row_key(TEAM, DATASET, BATCH_ID))["Item"])


PASSED = {"run_id": "jr_q", "outcome": "passed"}


def test_a_published_batch_has_its_rows(lake, monkeypatch) -> None:
    prove_quality(lake)
    prove_published(lake, {"air/flights/batch=1/p.parquet": 7})
    told = finish(lake, monkeypatch, "PUBLISHED", quality=PASSED)
    output = lake.row(f"s3://{lake.analytics_bucket}/air/flights/batch=1/p.parquet")
    assert output is not None
    assert (output["zone"], output["state"], output["batch_id"], output["size"]) == (
        "analytics",
        "PUBLISHED",
        BATCH_ID,
        7,
    )
    assert [lake.row(identity)["state"] for identity in STAGED] == ["PUBLISHED"] * 3
    end = row(lake)
    assert (end["state"], end["rows_in"], end["rows_out"], end["files"]) == ("PUBLISHED", 5, 4, 1)
    assert (end["bytes"], end["partitions"]) == (7, 0)
    assert end["quality"]["outcome"] == "passed"
    assert [one["rule"] for one in end["quality"]["rules"]] == [one["rule"] for one in RULES]
    assert "unfinished" not in end
    assert "reason" not in end
    assert (told["state"], told["reason"]) == ("PUBLISHED", "")


def test_the_row_has_the_times_that_are_known(lake, monkeypatch) -> None:
    prove_transform(lake)
    prove_quality(lake)
    prove_published(lake, {})
    lake.batches.update_item(
        Key=batches.row_key(TEAM, DATASET, BATCH_ID),
        UpdateExpression="SET started_at = :then",
        ExpressionAttributeValues={":then": clock.stamp(clock.now() - timedelta(seconds=100))},
    )
    finish(lake, monkeypatch, "PUBLISHED", quality=PASSED)
    end = row(lake)
    assert 98 <= end["transform_seconds"] <= 110
    assert 0 <= end["quality_seconds"] <= 10


def test_what_was_never_started_or_judged_has_no_times(lake, monkeypatch) -> None:
    prove_quality(lake)
    prove_published(lake, {})
    finish(lake, monkeypatch, "PUBLISHED", quality={"outcome": "no rules"})
    assert {"transform_seconds", "quality_seconds"} & set(row(lake)) == set()


def test_the_next_attempt_begins_without_the_numbers_of_the_last(lake, monkeypatch) -> None:
    prove_quality(lake)
    prove_published(lake, {"air/flights/batch=1/p.parquet": 7})
    finish(lake, monkeypatch, "PUBLISHED", quality=PASSED)
    batches.new_attempt(lake.batches, batches.of_row(row(lake)), NOW)
    assert {"quality", *batches.STATISTICS} & set(row(lake)) == set()


def published_at(lake: Lake) -> str | None:
    tick = lake.datasets.get_item(Key=waiting.tick_key(TEAM, DATASET)).get("Item", {})
    return tick.get("published_at")


def test_the_tick_row_knows_when_the_dataset_published(lake, monkeypatch) -> None:
    prove_quality(lake)
    prove_published(lake, {})
    finish(lake, monkeypatch, "PUBLISHED", quality=PASSED)
    assert published_at(lake) == row(lake)["finished_at"]


def test_a_later_publication_stays_and_so_does_what_the_tick_wrote(lake, monkeypatch) -> None:
    prove_quality(lake)
    prove_published(lake, {})
    stood = {**waiting.tick_key(TEAM, DATASET), "kind": "tick", "published_at": "2999-01-01T00:00:00.000Z"}
    lake.datasets.put_item(Item=stood | {"waiting_since": "2026-01-01T00:00:00.000Z"})
    finish(lake, monkeypatch, "PUBLISHED", quality=PASSED)
    tick = lake.datasets.get_item(Key=waiting.tick_key(TEAM, DATASET))["Item"]
    assert tick == stood | {"waiting_since": "2026-01-01T00:00:00.000Z"}


def test_what_is_not_published_leaves_the_dataset_as_stale_as_it_was(lake, monkeypatch) -> None:
    prove_quality(lake, "block", [*RULES, BROKEN])
    finish(lake, monkeypatch, "FAILED_QUALITY", quality={"run_id": "jr_q", "outcome": "failed"})
    assert published_at(lake) is None


def emitted(capsys) -> list[dict[str, Any]]:
    """The metrics that were sent, each with its dimensions."""
    found = []
    for line in capsys.readouterr().out.splitlines():
        sent = json.loads(line)
        for directive in sent.get("_aws", {}).get("CloudWatchMetrics", []):
            for names_of in directive["Dimensions"]:
                values = {one["Name"]: (sent[one["Name"]], one["Unit"]) for one in directive["Metrics"]}
                found.append({"dimensions": {name: sent[name] for name in names_of}, **values})
    return found


OF_THE_DATASET = {"Environment": "dev", "Team": "air", "Dataset": "flights"}
OF_THE_PIPELINE = {"Environment": "dev", "Team": "air", "Pipeline": "main"}


def test_an_ending_is_counted_for_its_dataset_and_its_pipeline(lake, monkeypatch, capsys) -> None:
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED")
    prove_quality(lake)
    prove_published(lake, {"air/flights/batch=1/p.parquet": 7})
    finish(lake, monkeypatch, "PUBLISHED", quality=PASSED)
    counted = {
        "BatchesPublished": ([1.0], "Count"),
        "RowsPublished": ([4.0], "Count"),
        "BytesPublished": ([7.0], "Bytes"),
    }
    assert emitted(capsys) == [
        {"dimensions": OF_THE_DATASET, **counted},
        {"dimensions": OF_THE_PIPELINE, **counted},
    ]


@pytest.mark.parametrize(
    ("cause", "counted"),
    [
        ("", {"BatchesFailed": ([1.0], "Count")}),
        (
            json.dumps({"JobName": "t", "JobRunState": "TIMEOUT"}),
            {"BatchesFailed": ([1.0], "Count"), "JobRunsFailed": ([1.0], "Count")},
        ),
    ],
    ids=["anything", "a job's run"],
)
def test_a_failure_is_counted_and_a_jobs_run_apart(lake, monkeypatch, capsys, cause, counted) -> None:
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED")
    finish(lake, monkeypatch, "FAILED", failure={"Error": "States.TaskFailed", "Cause": cause})
    assert emitted(capsys)[1] == {"dimensions": OF_THE_PIPELINE, **counted}


def test_a_blocked_batch_is_counted(lake, monkeypatch, capsys) -> None:
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED")
    prove_quality(lake, "block", [*RULES, BROKEN])
    finish(lake, monkeypatch, "FAILED_QUALITY", quality={"run_id": "jr_q", "outcome": "failed"})
    assert emitted(capsys)[1] == {"dimensions": OF_THE_PIPELINE, "BatchesBlocked": ([1.0], "Count")}


def test_a_person_is_told_what_failed_and_what_to_do_next(lake, monkeypatch) -> None:
    prove_quality(lake, "block", [*RULES, BROKEN])
    told = finish(lake, monkeypatch, "FAILED_QUALITY", quality={"run_id": "jr_q", "outcome": "failed"})
    assert told["subject"] == "Tarn dev: air/flights FAILED_QUALITY, 1 of 3 rules failed"
    assert (told["schema"], told["rules_failed"]) == (1, 1)
    assert told["message"].splitlines() == [
        f"air/flights, batch {BATCH_ID}, attempt 1: FAILED_QUALITY",
        "Nothing was published: its data does not meet the dataset's rules, and the dataset blocks.",
        "",
        'Reason: 1 of 3 rules failed, first Mean "hour" > 30: Value: NaN',
        "",
        "1 of 3 rules failed. The first:",
        '  Mean "hour" > 30',
        "  Mean = nan",
        "",
        "Figures: rows in 5, rows out 4",
        "",
        "Next:",
        f"  tarn logs air/flights --batch {BATCH_ID} --environment dev",
        "  tarn status --environment dev",
    ]


def test_finishing_twice_is_finishing_once(lake, monkeypatch) -> None:
    prove_quality(lake)
    prove_published(lake, {"air/flights/batch=1/p.parquet": 7})
    first = finish(lake, monkeypatch, "PUBLISHED", quality=PASSED), row(lake), lake.objects.scan()["Items"]
    assert (finish(lake, monkeypatch, "PUBLISHED", quality=PASSED), row(lake), lake.objects.scan()["Items"]) == first


def test_rows_that_went_their_own_way_stay_so(lake, monkeypatch) -> None:
    prove_quality(lake)
    prove_published(lake, {})
    lake.objects.put_item(Item={"id": STAGED[0], "state": "STALE", "batch_id": BATCH_ID})
    lake.objects.put_item(Item={"id": STAGED[1], "state": "BATCHED", "batch_id": "another"})
    lake.objects.delete_item(Key={"id": STAGED[2]})
    finish(lake, monkeypatch, "PUBLISHED", quality=PASSED)
    assert [(lake.row(identity) or {}).get("state") for identity in STAGED] == ["STALE", "BATCHED", None]


def test_what_an_earlier_attempt_published_and_is_gone_is_deleted(lake, monkeypatch) -> None:
    prove_quality(lake)
    identity = f"s3://{lake.analytics_bucket}/air/flights/batch=1/old.parquet"
    lake.objects.put_item(Item={"id": identity, "state": "PUBLISHED", "batch_id": BATCH_ID})
    prove_published(lake, {}, deleted=("air/flights/batch=1/old.parquet", "air/flights/batch=1/never.parquet"))
    finish(lake, monkeypatch, "PUBLISHED", quality=PASSED)
    assert lake.row(identity)["state"] == "DELETED"
    assert lake.row(f"s3://{lake.analytics_bucket}/air/flights/batch=1/never.parquet") is None


@pytest.mark.parametrize(("outcome", "said"), [("not judged", "not judged"), ("no rules", "")])
def test_a_batch_that_was_not_judged_says_so(lake, monkeypatch, outcome, said) -> None:
    prove_quality(lake)
    prove_published(lake, {})
    told = finish(lake, monkeypatch, "PUBLISHED", quality={"outcome": outcome})
    assert row(lake)["quality"] == {"outcome": outcome}
    assert told["reason"].startswith(said)
    assert bool(told["reason"]) is bool(said)


def test_a_batch_published_with_a_warning_says_so(lake, monkeypatch) -> None:
    prove_quality(lake, "warn", [*RULES, BROKEN])
    prove_published(lake, {})
    told = finish(lake, monkeypatch, "PUBLISHED", quality={"run_id": "jr_q", "outcome": "failed"})
    assert told["reason"].startswith('1 of 3 rules failed, first Mean "hour" > 30: Value: NaN')
    assert (told["rule"], told["metric"]) == (BROKEN["rule"], {"Mean": "nan"})
    assert row(lake)["state"] == "PUBLISHED"


def test_a_blocked_batch_keeps_its_objects_and_names_the_rule(lake, monkeypatch) -> None:
    prove_quality(lake, "block", [*RULES, BROKEN])
    told = finish(lake, monkeypatch, "FAILED_QUALITY", quality={"run_id": "jr_q", "outcome": "failed"})
    assert [lake.row(identity)["state"] for identity in STAGED] == ["BATCHED"] * 3
    end = row(lake)
    assert (end["state"], end["quality"]["rules_failed"]) == ("FAILED_QUALITY", 1)
    assert end["quality"]["rules"][0]["rule"] == BROKEN["rule"], "what failed comes first"
    assert (told["state"], told["rule"]) == ("FAILED_QUALITY", BROKEN["rule"])


def test_thousands_of_long_rules_fit_into_the_row(lake, monkeypatch) -> None:
    rules = [RULES[0] | {"rule": f"{place} {'x' * 3000}", "reason": "é" * 3000} for place in range(2000)]
    prove_quality(lake, rules=rules)
    prove_published(lake, {})
    finish(lake, monkeypatch, "PUBLISHED", quality=PASSED)
    quality = row(lake)["quality"]
    assert quality["rules_total"] == 2000
    assert 10 < len(quality["rules"]) < 200


JOB_RUN = {"JobName": "transform", "JobRunState": "FAILED", "ErrorMessage": "No column dep_tme. Did you mean dep_time?"}


@pytest.mark.parametrize(
    ("error", "cause", "reason"),
    [
        ("States.TaskFailed", json.dumps(JOB_RUN), f"job transform FAILED: {JOB_RUN['ErrorMessage']}"),
        *(
            (
                "States.TaskFailed",
                json.dumps({"JobName": "t", "JobRunState": state}),
                f"job t {state}: it gave no message",
            )
            for state in ("TIMEOUT", "STOPPED", "ERROR", "EXPIRED")
        ),
        ("X", json.dumps({"errorType": "OutcomeMissingError", "errorMessage": "none"}), "OutcomeMissingError: none"),
        ("States.Timeout", "", "States.Timeout"),
        ("Glue.InvalidInputException", "not JSON {", "Glue.InvalidInputException: not JSON {"),
        ("", "", "unknown"),
    ],
)
def test_the_reason_is_the_jobs_own_last_error(lake, monkeypatch, error, cause, reason) -> None:
    told = finish(lake, monkeypatch, "FAILED", failure={"Error": error, "Cause": cause})
    end = row(lake)
    assert (end["state"], end["reason"], told["reason"]) == ("FAILED", reason, reason)
    assert "unfinished" not in end
    assert [lake.row(identity)["state"] for identity in STAGED] == ["BATCHED"] * 3


def test_a_long_reason_is_cut() -> None:
    assert len(finishing.reason_of({"Error": "E", "Cause": "x" * 50_000})) == finishing.LONGEST_REASON


def test_a_failure_after_the_row_says_published_changes_nothing(lake, monkeypatch) -> None:
    """The write that published it succeeded and its answer was lost: the notification tells the truth."""
    prove_quality(lake)
    prove_published(lake, {})
    finish(lake, monkeypatch, "PUBLISHED", quality=PASSED)
    told = finish(lake, monkeypatch, "FAILED", failure={"Error": "States.Timeout"})
    assert (row(lake)["state"], told["state"]) == ("PUBLISHED", "PUBLISHED")
    assert "Its data is published." in told["message"]


def test_an_attempt_whose_turn_is_over_writes_nothing(lake, monkeypatch) -> None:
    prove_quality(lake)
    prove_published(lake, {"air/flights/batch=1/p.parquet": 7})
    lake.batches.update_item(
        Key=batches.row_key(TEAM, DATASET, BATCH_ID),
        UpdateExpression="SET attempt = :two",
        ExpressionAttributeValues={":two": 2},
    )
    before = row(lake), lake.objects.scan()["Items"]
    with pytest.raises(NotInStateError):
        finish(lake, monkeypatch, "PUBLISHED", quality=PASSED)
    told = finish(lake, monkeypatch, "FAILED", failure={"Error": "States.Timeout"})
    assert (row(lake), lake.objects.scan()["Items"]) == before
    assert told["state"] == "STARTED"


def test_a_batch_is_not_published_without_its_receipt(lake, monkeypatch) -> None:
    prove_quality(lake)
    with pytest.raises(OutcomeMissingError):
        finish(lake, monkeypatch, "PUBLISHED", quality=PASSED)
    assert row(lake)["state"] == "STARTED"
