"""moto instead of AWS, whatever emulator another test's lake lets this process see."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto import mock_aws

REGION = "eu-west-1"
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def mocked_aws(region: str = REGION) -> Iterator[pytest.MonkeyPatch]:
    """An empty account in ``region``, and what changes the environment until it closes; then all is as before."""
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in {**VARIABLES, "AWS_DEFAULT_REGION": region, "AWS_REGION": region}.items():
            patch.setenv(name, value)
        yield patch
