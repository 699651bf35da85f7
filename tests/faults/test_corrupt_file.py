"""Corrupt file: it goes to quarantine with its reason, and the files beside it go on."""

from __future__ import annotations

import gzip

from tests.faults.standing import GOOD, Standing

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256)) * 4
CORRUPT = {
    "picture.csv": (JPEG, "JPEG"),
    "torn.csv.gz": (gzip.compress(GOOD * 500)[:-20], ""),
    "typed wrong.csv": (b"carrier;name\nAA;American\n", "column"),
    "not text.csv": (b"carrier,name\nAA,\xff\xfe\x00\x01\n", ""),
}


def test_corrupt_files_are_quarantined_with_a_reason_and_good_ones_staged(standing: Standing) -> None:
    bad = {standing.put(f"corrupt/{name}", body): reason for name, (body, reason) in CORRUPT.items()}
    good = [standing.put(f"corrupt/good {place}.csv") for place in range(6)]
    standing.wait_for_state("QUARANTINED", *bad)
    standing.wait_for_state("STAGED", *good)
    for identity, reason in bad.items():
        row = standing.row(identity)
        assert row["reason"]
        assert reason in row["reason"]
        assert row["attention_at"].startswith("QUARANTINED#")
        assert standing.s3.head_object(Bucket=standing.raw_bucket, Key=identity.split("/", 3)[3])
