"""The process itself: its folder, its environment, its end."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tarn.local import emulator as local
from tarn.local.emulator import Emulator, EmulatorError
from tests.integration.local_world import Roles, client_of, until


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    local.stop(tmp_path)


def _function(source: str) -> dict[str, bytes]:
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("index.py", source)
    return {"ZipFile": package.getvalue()}


def _invoke(client: Any, role: str, source: str, **properties: Any) -> dict[str, Any]:
    name = f"function-{time.monotonic_ns()}"
    code = _function(source)
    client.create_function(
        FunctionName=name, Role=role, Runtime="python3.13", Handler="index.handler", Code=code, Timeout=20, **properties
    )
    return dict(json.load(client.invoke(FunctionName=name)["Payload"]))


def test_state_survives_a_stop_and_a_kill_under_the_same_port(folder: Path) -> None:
    first = local.start(folder)
    s3 = client_of(first, "s3")
    s3.create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="kept", Key="a", Body=b"1")
    client_of(first, "ssm").put_parameter(Name="/kept", Value="1", Type="String")
    assert local.start(folder) == first  # it runs already
    local.stop(folder)
    assert local.running(folder) is None

    second = local.start(folder)
    assert second.endpoint_url == first.endpoint_url
    assert client_of(second, "s3").get_object(Bucket="kept", Key="a")["Body"].read() == b"1"
    client_of(second, "ssm").put_parameter(Name="/saved", Value="1", Type="String")
    saved = folder / "services" / "ssm.json"
    assert until(lambda: "/saved" in saved.read_text())
    os.kill(second.pid, signal.SIGKILL)
    assert until(lambda: local.running(folder) is None)

    third = client_of(local.start(folder), "ssm")
    assert {found["Name"] for found in third.describe_parameters()["Parameters"]} == {"/kept", "/saved"}


def test_a_port_that_is_taken_is_named(folder: Path) -> None:
    port = local.start(folder).settings.port
    local.stop(folder)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(EmulatorError, match=f"Port {port} is in use"):
            local.start(folder)


def test_no_second_emulator_in_a_folder(emulator: Emulator) -> None:
    environment = {**os.environ, **emulator.settings.environment()}
    command = [sys.executable, "-m", "tarn.local.launcher"]
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "another emulator runs in" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_missing_plug_point_stops_the_start(tmp_path: Path, emulator: Emulator) -> None:
    """The launcher's own words, with a name that is not in MiniStack."""
    program = (
        "import sys; from tarn.local import extension, launcher; from types import SimpleNamespace as N;"
        "from tarn.local.extension.patching import original;"
        "extension.PLUG_POINTS = (N(install=lambda settings: original('ministack.services.sqs', 'gone')),);"
        "sys.exit(launcher.main())"
    )
    environment = {**os.environ, **emulator.settings.environment(), "TARN_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    started = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert started.returncode == 1
    assert "error: ministack.services.sqs.gone is not there" in started.stderr
    assert "Traceback" not in started.stderr


def test_it_listens_on_loopback_alone_and_only_over_tls(emulator: Emulator) -> None:
    port = emulator.settings.port
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", port))
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(
            f"https://127.0.0.1:{port}/_ministack/health", context=ssl.create_default_context(cafile=None), timeout=5
        )


def test_a_function_sees_no_key_or_profile_of_ours(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as ours:
        ours.setenv("AWS_PROFILE", "production")
        ours.setenv("AWS_SECRET_ACCESS_KEY", "real-secret")
        ours.setenv("GITHUB_TOKEN", "real-token")
        own = local.start(folder)
    role = Roles(own, lambda service: client_of(own, service)).create()
    source = "import os\ndef handler(event, context):\n    return dict(os.environ)\n"
    seen = _invoke(client_of(own, "lambda"), role, source)
    assert not {"AWS_PROFILE", "GITHUB_TOKEN"} & set(seen)
    assert "real-secret" not in seen.values()
    assert seen["AWS_CONFIG_FILE"] == seen["AWS_SHARED_CREDENTIALS_FILE"] == "/dev/null"
    assert seen["AWS_ENDPOINT_URL"] == own.endpoint_url
    local.stop(folder, purge=True)
    assert not folder.exists()


def test_a_function_acts_as_its_role(client: Callable[[str], Any], roles: Roles) -> None:
    role = roles.create()
    source = """
import boto3, botocore.exceptions, duckdb, pydantic, aws_lambda_powertools
def handler(event, context):
    try:
        boto3.client("ssm").get_parameter(Name="/of-the-test")
    except botocore.exceptions.ClientError as error:
        return {"error": error.response["Error"]["Code"], "who": boto3.client("sts").get_caller_identity()["Arn"]}
"""
    answer = _invoke(client("lambda"), role, source)
    assert answer["error"] == "AccessDeniedException"
    assert answer["who"].startswith(f"arn:aws:sts::000000000000:assumed-role/{role.rpartition('/')[2]}/")


def test_an_unknown_key_is_refused(emulator: Emulator) -> None:
    with pytest.raises(ClientError, match="security token included in the request is invalid"):
        client_of(emulator, "sqs", "AKIAUNKNOWN", "secret").list_queues()
