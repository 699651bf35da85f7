"""The soak's own parts: what it puts, what it counts, what its broken lakes change."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.soak import end_state, load
from tests.soak.__main__ import MOST_FAILED_ROUNDS, Tolerance
from tests.soak.end_state import Published, Verdict
from tests.soak.load import LINES, Load, Put, amounts, body, etag
from tests.soak.mutants import CHANGES, mutated

BUCKET = "raw"
ORDER, OTHER = "air/orders/00/000000.csv", "air/orders/01/000002.csv"


class Bucket:
    """Notes what is done to each key, in order."""

    def __init__(self) -> None:
        self.done: dict[str, list[bytes | None]] = {}

    def put_object(self, Bucket: str, Key: str, Body: bytes) -> None:  # noqa: N803
        self.done.setdefault(Key, []).append(Body)

    def delete_object(self, Bucket: str, Key: str) -> None:  # noqa: N803
        self.done.setdefault(Key, []).append(None)


def everything(seed: int) -> Bucket:
    bucket = Bucket()
    load = Load(bucket, BUCKET, 2000, seed, lambda: True)
    load.start()
    load.wait()
    assert (load.done, load.error) == (2000, "")
    return bucket


def test_a_writer_that_raises_ends_the_load_and_says_so() -> None:
    class Broken(Bucket):
        def put_object(self, Bucket: str, Key: str, Body: bytes) -> None:  # noqa: N803
            if "000100" in Key:
                raise OSError("no answer")

    load = Load(Broken(), BUCKET, 2000, 1, lambda: True)
    load.start()
    load.wait()
    assert load.error == "OSError: no answer"
    assert load.done < 2000
    verdict = end_state.judge(load, {}, {}, {}, {}, {})
    assert verdict.lost == set(load.last), "S3 holds nothing of it"
    assert "the load broke off: OSError: no answer" in verdict.wrong


def test_a_load_that_waits_can_be_stopped() -> None:
    load = Load(Bucket(), BUCKET, 2000, 1, lambda: False)
    load.start()
    assert load.is_putting()
    load.stop()
    assert (load.is_putting(), load.done, load.error) == (False, 0, "")


def test_rounds_may_fail_but_not_too_many_in_a_row() -> None:
    said: list[str] = []
    tolerance = Tolerance(said.append)
    timeout = ReadTimeoutError(endpoint_url="https://sqs")
    for _ in range(3):
        for _ in range(MOST_FAILED_ROUNDS - 1):
            with tolerance.round():
                raise timeout
        with tolerance.round():
            pass
    assert len(said) == 3 * (MOST_FAILED_ROUNDS - 1)

    def fail() -> None:
        with tolerance.round():
            raise timeout

    for _ in range(MOST_FAILED_ROUNDS - 1):
        fail()
    with pytest.raises(ReadTimeoutError):
        fail()


def test_a_load_has_something_of_everything_in_each_keys_order() -> None:
    done = everything(1).done
    assert len(done) == 2000
    kinds = Counter(tuple("delete" if one is None else "put" for one in some) for some in done.values())
    assert set(kinds) == {("put",), ("put", "put"), ("put", "delete"), ("put", "delete", "put")}
    assert min(kinds.values()) > 20
    assert sum(one.startswith(load.UNREADABLE) for some in done.values() for one in some if one) > 20
    for some in done.values():
        puts = [one for one in some if one is not None]
        assert all(earlier != later for earlier, later in pairwise(puts))


def test_the_seed_decides_what_is_put() -> None:
    assert everything(1).done == everything(1).done != everything(2).done


@pytest.mark.parametrize("mutant", sorted(CHANGES))
def test_a_mutant_fits_the_functions_and_is_still_python(mutant: str) -> None:
    file, changes = CHANGES[mutant]
    compile(mutated(file, changes), file, "exec")


def right(key: str, number: int) -> Published:
    return Published(LINES, LINES, sum(amounts(key, number)))


def judged(published: dict[tuple[str, int], Published], states: dict[str, str], missing: str = "") -> Verdict:
    """The verdict on a lake where ORDER was put twice and OTHER once; ``states`` are of staged rows by version."""
    one = Load(None, BUCKET, 2, 1, lambda: True, puts={key: {} for key in (ORDER, OTHER)}, done=2)
    for key, number in ((ORDER, 1), (ORDER, 2), (OTHER, 1)):
        one.puts[key][etag(body(key, number))] = number
        one.last[key] = Put(key, number, body(key, number))
    versions: dict[str, list[dict[str, Any]]] = {
        ORDER: [
            {"VersionId": "o2", "ETag": etag(body(ORDER, 2)), "IsLatest": True},
            {"VersionId": "o1", "ETag": etag(body(ORDER, 1)), "IsLatest": False},
        ],
        OTHER: [{"VersionId": "x1", "ETag": etag(body(OTHER, 1)), "IsLatest": True}],
    }
    staged = {
        (f"s3://{BUCKET}/{key}", version): [states.get(version, "PUBLISHED")]
        for key, version in ((ORDER, "o1"), (ORDER, "o2"), (OTHER, "x1"))
    }
    raw = {
        f"s3://{BUCKET}/{key}": {"state": states.get(key, "STAGED"), "version_id": found[0]["VersionId"]}
        for key, found in versions.items()
    }
    if missing:
        versions[missing] = versions[missing][1:]
    versions = {key: found for key, found in versions.items() if found}
    return end_state.judge(one, versions, published, raw, staged, {})


def test_what_stands_once_is_good() -> None:
    published = {(ORDER, 2): right(ORDER, 2), (OTHER, 1): right(OTHER, 1)}
    verdict = judged(published, {"o1": "SUPERSEDED"})
    assert verdict.is_good, verdict.wrong
    assert verdict.rows == verdict.expected_rows == 2 * LINES
    replaced = judged(published | {(ORDER, 1): right(ORDER, 1)}, {"o1": "STALE"})
    assert (replaced.is_good, replaced.stale) == (True, 1), "its row says that it was published before"


@pytest.mark.parametrize(
    ("published", "states", "lost", "twice"),
    [
        pytest.param({(OTHER, 1): right(OTHER, 1)}, {}, {ORDER}, set(), id="missing"),
        pytest.param({(ORDER, 1): right(ORDER, 1), (OTHER, 1): right(OTHER, 1)}, {}, {ORDER}, {ORDER}, id="older"),
        pytest.param(
            {(ORDER, 2): Published(LINES - 1, LINES - 1, 5), (OTHER, 1): right(OTHER, 1)},
            {},
            {ORDER},
            set(),
            id="a row short",
        ),
        pytest.param(
            {(ORDER, 2): right(ORDER, 2), (OTHER, 1): Published(2 * LINES, LINES, 2 * sum(amounts(OTHER, 1)))},
            {},
            set(),
            {OTHER},
            id="doubled",
        ),
        pytest.param(
            {(ORDER, 2): Published(LINES, LINES, 1), (OTHER, 1): right(OTHER, 1)}, {}, set(), set(), id="other values"
        ),
        pytest.param(
            {(ORDER, 2): right(ORDER, 2), (OTHER, 1): right(OTHER, 1)},
            {OTHER: "LANDED"},
            set(),
            set(),
            id="catalog behind",
        ),
        pytest.param(
            {(ORDER, 2): right(ORDER, 2), (OTHER, 1): right(OTHER, 1)},
            {"x1": "BATCHED"},
            set(),
            set(),
            id="staged row behind",
        ),
    ],
)
def test_what_differs_is_said(
    published: dict[tuple[str, int], Published], states: dict[str, str], lost: set[str], twice: set[str]
) -> None:
    verdict = judged(published, states)
    assert (verdict.lost, verdict.twice) == (lost, twice)
    assert not verdict.is_good
    assert verdict.wrong


@pytest.mark.parametrize("missing", [ORDER, OTHER])
def test_a_put_that_s3_does_not_hold_is_lost(missing: str) -> None:
    """Its last put, or all of it: what S3 lists is not all that was put."""
    verdict = judged({(ORDER, 2): right(ORDER, 2), (OTHER, 1): right(OTHER, 1)}, {"o1": "SUPERSEDED"}, missing)
    assert missing in verdict.lost


def test_a_deletion_that_s3_does_not_show_is_lost() -> None:
    one = Load(None, BUCKET, 0, 1, lambda: True, puts={ORDER: {etag(body(ORDER, 1)): 1}})
    one.last[ORDER] = Put(ORDER, 2, None)
    marker = {"VersionId": "o2", "IsLatest": True}
    stands = {"VersionId": "o1", "ETag": etag(body(ORDER, 1)), "IsLatest": True}
    gone = {f"s3://{BUCKET}/{ORDER}": {"state": "DELETED"}}
    assert end_state.judge(one, {ORDER: [marker]}, {}, gone, {}, {}).is_good
    assert end_state.judge(one, {ORDER: [stands]}, {}, gone, {}, {}).lost == {ORDER}


def test_a_spoiled_object_may_not_be_published() -> None:
    """Whatever its row says."""
    one = Load(None, BUCKET, 0, 1, lambda: True)
    spoiled = Put(load.SPOILED_KEY, 1, b"spoiled")
    one.puts[spoiled.key] = {etag(b"spoiled"): 1}
    versions = {spoiled.key: [{"VersionId": "s1", "ETag": etag(b"spoiled"), "IsLatest": True}]}
    identity = f"s3://{BUCKET}/{spoiled.key}"
    raw: dict[str, dict[str, Any]] = {
        identity: {"state": "STAGED", "version_id": "s1"},
        "s3://stage/spoiled": {"state": "BATCHED", "source_id": identity, "batch_id": "b1"},
    }
    batches = {"b1": "FAILED_QUALITY"}
    staged = {(identity, "s1"): ["BATCHED"]}
    assert end_state.judge(one, versions, {}, raw, staged, batches).is_good
    assert not end_state.judge(one, versions, {}, raw, staged, {"b1": "PUBLISHED"}).is_good, "its rules judged nothing"
    published = {(spoiled.key, 1): Published(LINES, LINES, -18)}
    assert end_state.judge(one, versions, published, raw, staged, batches).twice == {spoiled.key}
