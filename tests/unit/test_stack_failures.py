"""The first failure and what to do about it."""

from __future__ import annotations

import pytest

from tarn.stack_failures import CORRECT_IT, Failure


@pytest.mark.parametrize(
    ("reason", "step"),
    [
        ("User: arn:aws:iam::1:role/r is not authorized to perform: s3:CreateBucket", "give the deploying role"),
        ("tarn-dev-raw already exists", "remove or adopt it"),
        ("Action denied by stack policy: statement [#1] does not allow", "docs/deploying.md says how"),
        ("Resource limit exceeded.", "ask AWS for a higher quota"),
        ("the field encoding is 'utf-9'", CORRECT_IT),
    ],
)
def test_each_kind_of_reason_has_its_next_step(reason: str, step: str) -> None:
    assert step in Failure("A/B", "AWS::S3::Bucket", reason).what_to_do()
