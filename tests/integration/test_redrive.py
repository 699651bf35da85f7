"""``tarn redrive`` on the embedded AWS: dead letters go back by SQS's own move, and each can be explained."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from lake import names
from tarn import cli, dead_letters
from tarn.lake import Lake
from tarn.local import emulator as local
from tarn.local.emulator import Emulator
from tests.integration.local_world import until
from tests.integration.tables import CATALOG, properties
from tests.integration.test_route_object import notification

TABLE = ("AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")
INGEST, DATASETS, CALLS = (
    "foundations/ingest-dead-letter-queue",
    "pipeline/air/main/dataset-dead-letter-queue",
    "pipeline/air/main/start-batch-dead-letter-queue",
)


@dataclass
class Site:
    """The contract of a lake with nothing but queues and the object catalog."""

    environment: str
    client: Callable[[str], Any]
    queues: dict[str, str]
    raw_bucket: str = "raw"

    @property
    def sqs(self) -> Any:
        return self.client("sqs")

    def tarn(self, *words: str) -> Any:
        return CliRunner().invoke(cli.app, [*words, "--environment", self.environment], env={"COLUMNS": "250"})

    def bury(self, work: str, *bodies: Any) -> None:
        """Let messages of a queue become dead letters."""
        url = self.queues[work]
        for body in bodies:
            self.sqs.send_message(QueueUrl=url, MessageBody=body if isinstance(body, str) else json.dumps(body))
        for _ in range(len(bodies) + 2):
            self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        assert self.holds(work) == 0

    def holds(self, place: str) -> int:
        name = "ApproximateNumberOfMessages"
        answer = self.sqs.get_queue_attributes(QueueUrl=self.queues[place], AttributeNames=[name])
        return int(answer["Attributes"][name])


@pytest.fixture
def site(emulator: Emulator, client: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Site:
    for name, value in local.client_environment(emulator.settings.state_dir).items():
        monkeypatch.setenv(name, value)
    name = f"t{uuid.uuid4().hex[:8]}"
    sqs = client("sqs")
    queues = {}
    for dead, works in {INGEST: ["foundations/ingest-queue"], DATASETS: ["a", "b"], CALLS: []}.items():
        queues[dead] = sqs.create_queue(QueueName=f"{name}-{dead.replace('/', '-')}")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queues[dead], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "2"})
        for work in works:
            place = work if "/" in work else f"dataset/air/main/{work}/queue"
            url = sqs.create_queue(QueueName=f"{name}-{place.replace('/', '-')}", Attributes={"RedrivePolicy": policy})
            queues[place] = url["QueueUrl"]
    declared = properties(CATALOG, "ObjectsTable")
    client("dynamodb").create_table(TableName=name, **{one: declared[one] for one in TABLE if one in declared})
    contract = {"foundations/raw-bucket/name": "raw", "foundations/objects-table/name": name}
    contract |= {f"{place}/url": url for place, url in queues.items()}
    for thing, value in contract.items():
        client("ssm").put_parameter(Name=f"/tarn/{name}/{thing}", Value=value, Type="String")
    return Site(name, client, queues)


A, B = "dataset/air/main/a/queue", "dataset/air/main/b/queue"


def test_all_dead_letters_go_back_to_their_own_queues(site: Site) -> None:
    site.bury("foundations/ingest-queue", *(f"i{number}" for number in range(12)))
    site.bury(A, "a1", "a2")
    site.bury(B, "b1")
    assert (site.holds(INGEST), site.holds(DATASETS)) == (12, 3)
    done = site.tarn("redrive", "--all")
    assert done.exit_code == 0, done.output
    assert f"{INGEST}: 12 moved, COMPLETED" in done.output
    assert f"{DATASETS}: 3 moved, COMPLETED" in done.output
    assert [site.holds(one) for one in ("foundations/ingest-queue", A, B, INGEST, DATASETS)] == [12, 2, 1, 0, 0]
    again = site.tarn("redrive", "--all")
    assert (again.exit_code, again.output.startswith("No dead letters in foundations/ingest-dead")) == (0, True)


def test_one_queue_leaves_the_others(site: Site) -> None:
    site.bury("foundations/ingest-queue", "i")
    site.bury(A, "a")
    assert site.tarn("redrive", INGEST).exit_code == 0
    assert (site.holds(INGEST), site.holds(DATASETS)) == (0, 1)


def test_a_dry_run_says_what_each_letter_is_and_moves_nothing(site: Site) -> None:
    identity = names.object_id("raw", "air/a/x.csv")
    row = {"id": {"S": identity}, "team": {"S": "air"}, "dataset": {"S": "a"}, "sequencer": {"S": "b1".rjust(32, "0")}}
    put = site.client("dynamodb").put_item
    put(TableName=site.environment, Item={**row, "state": {"S": "QUARANTINED"}, "reason": {"S": "line 2"}})
    put(TableName=site.environment, Item={**row, "id": {"S": "s3://stage/air/a/y"}, "dataset": {"S": "gone"}})
    event = notification(type("Raw", (), {"raw_bucket": "raw"}), "air/a/x.csv")
    other = notification(type("Raw", (), {"raw_bucket": "theirs"}), "air/a/x.csv")
    site.bury("foundations/ingest-queue", "no JSON", event, other)
    message = {"schema": 1, "id": "s3://stage/air/a/y", "team": "air", "dataset": "a", "sequencer": "1"}
    site.bury(A, message, {**message, "schema": 0}, {**message, "id": "s3://stage/air/a/z"})
    done = site.tarn("redrive", "--all", "--dry-run")
    assert done.exit_code == 0, done.output
    for line in (
        f"{INGEST}: 3 for {site.environment}-foundations-ingest-queue",
        "unreadable: not JSON (JSONDecodeError",
        f"{identity} is QUARANTINED (line 2), by a later event",
        "an event of bucket theirs: the raw zone is raw",
        "the row of s3://stage/air/a/y was edited: state is None",
        'unreadable: no message that this version knows: \'{"schema": 0',
        "s3://stage/air/a/z: it has no row in the object catalog",
    ):
        assert line in done.output, (line, done.output)
    assert (site.holds(INGEST), site.holds(DATASETS)) == (3, 3)


def test_a_letter_of_a_removed_dataset_says_so_and_stays(site: Site) -> None:
    site.bury(A, "a")
    site.sqs.delete_queue(QueueUrl=site.queues[A])
    done = site.tarn("redrive", DATASETS)
    assert done.exit_code == 1
    assert "0 moved, FAILED: AWS.SimpleQueueService.NonExistentQueue: the queue that a letter came from" in done.output
    assert site.holds(DATASETS) == 1


def test_calls_of_start_batch_are_told_for_what_they_are(site: Site) -> None:
    site.sqs.send_message(QueueUrl=site.queues[CALLS], MessageBody='{"team": "air", "dataset": "a"}')
    done = site.tarn("redrive", "--all")
    assert done.exit_code == 0, done.output
    assert f"{CALLS}: 1 calls that did not reach start_batch" in done.output
    assert f"aws sqs purge-queue --queue-url {site.queues[CALLS]}" in done.output
    assert site.holds(CALLS) == 1


def test_a_move_that_is_under_way_is_waited_for(site: Site) -> None:
    site.bury(A, *(f"a{number}" for number in range(4)))
    lake = Lake(site.environment)
    [letters] = dead_letters.find(lake, site.sqs, DATASETS)
    site.sqs.start_message_move_task(SourceArn=letters.arn, MaxNumberOfMessagesPerSecond=2)
    seen: list[tuple[int, int]] = []
    moved = dead_letters.move(site.sqs, letters, None, lambda done, total: seen.append((done, total)), 0.1)
    assert moved == dead_letters.Moved("COMPLETED", 4)
    assert len(site.sqs.list_message_move_tasks(SourceArn=letters.arn, MaxResults=10)["Results"]) == 1
    assert seen[-1] == (4, 4)


def test_a_rate_is_kept_and_what_sqs_refuses_is_told(site: Site) -> None:
    site.bury(A, "a")
    [letters] = dead_letters.find(Lake(site.environment), site.sqs, DATASETS)
    assert site.tarn("redrive", DATASETS, "--rate", "50").exit_code == 0
    [task] = site.sqs.list_message_move_tasks(SourceArn=letters.arn)["Results"]
    assert task["MaxNumberOfMessagesPerSecond"] == 50
    assert until(lambda: site.holds(A) == 1)
    with pytest.raises(ClientError, match="between 1 and 500"):
        dead_letters.move(site.sqs, letters, 501, lambda *_: None)


def test_a_queue_that_refuses_leaves_the_others_their_move(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.bury("foundations/ingest-queue", "i")
    site.bury(A, "a")
    move = dead_letters.move

    def refused(sqs: Any, letters: dead_letters.DeadLetters, *rest: Any) -> dead_letters.Moved:
        if letters.place == INGEST:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not you"}}, "StartMessageMoveTask")
        return move(sqs, letters, *rest)

    monkeypatch.setattr(dead_letters, "move", refused)
    done = site.tarn("redrive", "--all")
    assert done.exit_code == 1
    assert f"{INGEST}: 0 moved, REFUSED: An error occurred (AccessDenied)" in done.output
    assert f"{DATASETS}: 1 moved, COMPLETED" in done.output
    assert (site.holds(INGEST), site.holds(A)) == (1, 1)


def test_a_move_that_moves_nothing_more_is_not_waited_for_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    [letters] = dead_letters.find(Lake(site.environment), site.sqs, DATASETS)
    stands = {"Status": "RUNNING", "StartedTimestamp": 1, "ApproximateNumberOfMessagesMoved": 3}
    monkeypatch.setattr(dead_letters, "_latest", lambda *_: stands)
    moved = dead_letters.move(site.sqs, letters, None, lambda *_: None, 0)
    assert (moved.status, moved.messages) == ("RUNNING", 3)
    assert "nothing more moves" in moved.reason


@pytest.mark.parametrize("words", [[], [INGEST, "--all"], ["foundations/ingest-queue"], ["nobody"]], ids=str)
def test_what_is_no_dead_letter_queue_is_refused(site: Site, words: list[str]) -> None:
    done = site.tarn("redrive", *words)
    assert done.exit_code == 1
    if len(words) == 1:
        assert f"is no dead-letter queue of this lake: it has {INGEST}, {DATASETS}, {CALLS}" in done.output
