"""The file system of a job, asked over HTTP as Hadoop's client asks."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import boto3
import pytest

from tarn.local.s3_filesystem import MOST_KEPT_BYTES, S3FileSystem
from tarn.local.webhdfs import WebHdfs
from tests.mocked_aws import mocked_aws

HERE = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
LARGE = b"0123456789" * MOST_KEPT_BYTES
CHUNK = 7_000


class Client:
    """Requests to the server on ``port``, a connection for each."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, operation: str, body: Any = None) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.putrequest(method, f"/webhdfs/v1/lake/{path}?op={operation}")
        if body is not None:
            connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders(body, encode_chunked=body is not None)
        answer = connection.getresponse()
        return answer, answer.read()

    def told(self, method: str, path: str, operation: str) -> Any:
        return json.loads(self.ask(method, path, operation)[1])


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[tuple[Any, Client]]:
    """S3 with a bucket, and a client of its file system."""
    with mocked_aws():
        s3: Any = boto3.client("s3")
        s3.create_bucket(Bucket="lake", **HERE)
        ports: SimpleQueue[int] = SimpleQueue()
        is_over = Event()

        async def serve() -> None:
            server = await asyncio.start_server(WebHdfs(S3FileSystem(s3, tmp_path)).serve, "127.0.0.1", 0)
            ports.put(server.sockets[0].getsockname()[1])
            async with server:
                await asyncio.to_thread(is_over.wait)

        thread = Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        yield s3, Client(ports.get())
        is_over.set()
        thread.join()


def test_a_small_and_a_large_object_are_read_from_any_place(lake: tuple[Any, Client]) -> None:
    s3, client = lake
    for key, text in (("small", b"0123456789"), ("large", LARGE)):
        s3.put_object(Bucket="lake", Key=key, Body=text)
        for _ in range(2):  # the second time a small one is known
            status = client.told("GET", key, "GETFILESTATUS")["FileStatus"]
            assert (status["type"], status["length"]) == ("FILE", len(text))
            answer, read = client.ask("GET", key, f"OPEN&offset={len(text) - 3}")
            assert (answer.status, answer.headers["Content-Length"], read) == (200, "3", b"789")
            assert client.ask("GET", key, "OPEN")[1] == text
    listed = client.told("GET", "", "LISTSTATUS")["FileStatuses"]["FileStatus"]
    assert [(one["pathSuffix"], one["length"]) for one in listed] == [("large", len(LARGE)), ("small", 10)]


def test_a_name_may_hold_what_java_sends_as_it_is(lake: tuple[Any, Client]) -> None:
    s3, client = lake
    s3.put_object(Bucket="lake", Key="100% ü+1", Body=b"a")
    assert client.ask("GET", "100%25%20%C3%BC+1", "OPEN")[1] == b"a"
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    connection._validate_path = lambda url: None  # type: ignore[attr-defined]
    connection._encode_request = lambda request: request.encode()  # type: ignore[attr-defined]
    connection.request("GET", "/webhdfs/v1/lake/100%25%20ü+1?op=OPEN")
    assert connection.getresponse().read() == b"a"


def test_a_file_is_written_in_two_steps(lake: tuple[Any, Client]) -> None:
    s3, client = lake
    answer, _ = client.ask("PUT", "out", "CREATE&overwrite=true")
    where = "/webhdfs/v1/lake/out?op=CREATE&overwrite=true&data=true"
    assert answer.status == http.HTTPStatus.TEMPORARY_REDIRECT
    assert answer.headers["Location"].endswith(where)
    chunks = [LARGE[place : place + CHUNK] for place in range(0, len(LARGE), CHUNK)]
    assert (
        client.ask("PUT", "out", "CREATE&overwrite=true&data=true", iter(chunks))[0].status == http.HTTPStatus.CREATED
    )
    assert s3.get_object(Bucket="lake", Key="out")["Body"].read() == LARGE
    assert client.ask("PUT", "out", "CREATE&data=true", iter([b"a"]))[0].status == http.HTTPStatus.FORBIDDEN
    assert client.told("DELETE", "out", "DELETE") == {"boolean": True}
    assert client.told("DELETE", "out", "DELETE") == {"boolean": False}


@pytest.mark.parametrize(
    ("operation", "status", "exception"),
    [("OPEN", 404, "FileNotFoundException"), ("GETACLSTATUS", 400, "UnsupportedOperationException")],
)
def test_what_cannot_be_done_is_said_in_hadoops_words(
    lake: tuple[Any, Client], operation: str, status: int, exception: str
) -> None:
    answer, told = lake[1].ask("GET", "absent", operation)
    assert (answer.status, json.loads(told)["RemoteException"]["exception"]) == (status, exception)


def test_a_client_that_goes_is_no_error(lake: tuple[Any, Client], caplog: pytest.LogCaptureFixture) -> None:
    s3, client = lake
    s3.put_object(Bucket="lake", Key="large", Body=LARGE)
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    connection.request("GET", "/webhdfs/v1/lake/large?op=OPEN")
    connection.getresponse().read(10)
    connection.close()
    http.client.HTTPConnection("127.0.0.1", client.port, timeout=20).connect()
    assert client.ask("GET", "large", "OPEN&offset=655350")[1] == LARGE[655350:]
    assert not caplog.records
