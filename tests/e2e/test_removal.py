"""What a producer takes back is taken back in the catalog."""

from __future__ import annotations

from tarn import templates
from tests.e2e.lake_world import wait_for

AIRLINES = templates.ROOT / "datasets" / "air" / "airlines" / "samples" / "airlines.csv"


def test_a_raw_object_that_is_deleted_is_deleted_in_the_catalog(demo) -> None:
    identity = demo.lake.put("air", "nobodys", AIRLINES, "taken back.csv")

    def has(state: str) -> bool | None:
        return (demo.lake.object_row(identity) or {}).get("state") == state or None

    wait_for(lambda: has("UNROUTED"), f"{identity} has no row")
    bucket, _, key = identity.removeprefix("s3://").partition("/")
    demo.session.client("s3").delete_object(Bucket=bucket, Key=key)
    wait_for(lambda: has("DELETED"), f"{identity} is not deleted")
