"""Out of order, overwrite, delete: the catalog ends as S3 is, by S3's own sequencer, whatever comes late.

Every interleaving is explored in tests/integration/test_object_row_property.py; this is the whole lake.
"""

from __future__ import annotations

from tests.e2e.lake_world import wait_for
from tests.faults.standing import GOOD, Standing


def test_versions_deletions_and_late_events_end_as_s3_is(standing: Standing) -> None:
    name, key = "changed.csv", "air/airlines/changed.csv"
    identity = standing.put(name)
    standing.wait_for_state("STAGED", identity)
    late = standing.notification(identity)
    standing.put(name, GOOD + b"DL,Delta\n")
    standing.put(name, GOOD + b"DL,Delta\nUA,United\n")
    head = standing.s3.head_object(Bucket=standing.raw_bucket, Key=key)

    def is_staged() -> bool | None:
        row = standing.row(identity)
        return (row["state"], row.get("version_id")) == ("STAGED", head["VersionId"]) or None

    wait_for(is_staged, "the last version is not staged")
    standing.tell(late)
    standing.wait_until_empty(standing.ingest)
    assert standing.row(identity)["version_id"] == head["VersionId"]
    alive = [row for row in standing.staged(name) if row["state"] == "STAGED"]
    assert [row["rows"] for row in alive] == [3]

    marker = standing.s3.delete_object(Bucket=standing.raw_bucket, Key=key)["VersionId"]
    standing.wait_for_state("DELETED", identity)
    standing.tell(late)
    standing.wait_until_empty(standing.ingest)
    assert standing.row(identity)["state"] == "DELETED"
    assert {row["state"] for row in standing.staged(name)} == {"SUPERSEDED"}

    standing.s3.delete_object(Bucket=standing.raw_bucket, Key=key, VersionId=marker)
    wait_for(is_staged, "what was brought back is not staged")
    assert len([row for row in standing.staged(name) if row["state"] == "STAGED"]) == 1
