"""Folder, zero-byte: a folder marker is nothing; an empty file is kept, shown with its reason, and never staged."""

from __future__ import annotations

from tests.faults.standing import Standing


def test_folders_are_skipped_and_empty_files_shown(standing: Standing) -> None:
    folders = [standing.put(name, b"") for name in ("2013/", "2013/01/", "2013_$folder$")]
    empty = standing.put("2013/empty.csv", b"")
    good = standing.put("2013/good.csv")
    standing.wait_for_state("QUARANTINED", empty)
    standing.wait_for_state("STAGED", good)
    standing.wait_until_empty(standing.ingest)
    assert standing.row(empty)["reason"] == "empty"
    assert standing.row(empty)["attention_at"].startswith("QUARANTINED#")
    assert [standing.row(one) for one in folders] == [{}, {}, {}]
    assert standing.staged("2013/empty.csv") == []
