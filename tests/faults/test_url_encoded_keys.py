"""URL-encoded keys: S3's notifications carry them encoded; they are decoded exactly once, and mean the object again."""

from __future__ import annotations

from tests.faults.standing import Standing

NAMES = [
    "a b.csv",
    "a+b.csv",
    "a%2Bb.csv",
    "100%.csv",
    "ñandú Größe.csv",
    "a&b=c?d#e.csv",
    "~'()!*.csv",
    "a%20b+c d.csv",
]


def test_every_key_is_its_own_object(standing: Standing) -> None:
    names = [f"keys/{name}" for name in NAMES]
    identities = [standing.put(name, f"carrier,name\nA{place},x\n".encode()) for place, name in enumerate(names)]
    standing.wait_for_state("STAGED", *identities)
    stage = standing.lake.contract.foundations("stage-bucket/name")
    for name, identity in zip(names, identities, strict=True):
        row = standing.row(identity)
        assert row["staged_id"].startswith(f"s3://{stage}/air/airlines/{name}~")
        [staged] = standing.staged(name)
        key = staged["id"].removeprefix(f"s3://{stage}/")
        assert standing.s3.head_object(Bucket=stage, Key=key)["ContentLength"] == staged["size"]
