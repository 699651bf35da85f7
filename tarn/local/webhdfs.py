"""WebHDFS, answered from S3: the way in which a local Spark reaches `s3_filesystem`.

Hadoop's client speaks WebHDFS, so this server gives Spark the lake's buckets by configuration alone
(`mount_configuration`), with no jar and no change to a script.
https://hadoop.apache.org/docs/r3.3.4/hadoop-project-dist/hadoop-hdfs/WebHDFS.html
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from threading import Thread
from typing import IO
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import uvloop
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tarn.local.s3_filesystem import Entry, Location, S3FileSystem

_PREFIX = "/webhdfs/v1"
_ROOT = Path(__file__).resolve().parents[2]
_MOST_IN_MEMORY = 1 << 20
"""Bytes of what is written; more of it waits on the disk."""


class ServerError(Exception):
    """The file system's process ended before it served."""


@contextmanager
def serving(environment: Mapping[str, str], scratch: Path) -> Iterator[int]:
    """Serve one run's file system on the loopback interface as long as the block lasts; gives its port.

    It is a process of its own, with the keys in ``environment`` and no others: the emulator has more to do than to
    answer Spark, which opens each file a dozen times.
    """
    command = [sys.executable, "-m", __name__, str(scratch)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=_ROOT, env=dict(environment), stdin=pipe, stdout=pipe, text=True) as server:
        try:
            if not (port := server.stdout.readline() if server.stdout else ""):
                raise ServerError("the file system of the run did not start; the emulator's log says why")
            yield int(port)
        finally:
            server.kill()


def mount_configuration(port: int, buckets: Iterable[str]) -> dict[str, str]:
    """The Spark configuration that makes `s3://{bucket}/` the server on ``port``, for each bucket.

    https://hadoop.apache.org/docs/r3.3.4/hadoop-project-dist/hadoop-hdfs/ViewFsOverloadScheme.html
    """
    root = f"webhdfs://127.0.0.1:{port}"
    mounts = {f"spark.hadoop.fs.viewfs.mounttable.{bucket}.linkFallback": f"{root}/{bucket}" for bucket in buckets}
    overload = "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme"
    return {
        "spark.hadoop.fs.s3.impl": overload,
        # there is no data locality to ask for: one call less per file
        "spark.sql.sources.ignoreDataLocality": "true",
    } | mounts


@dataclass(frozen=True)
class _Call:
    """A request: ``target`` as it came, which names the operation and where it is done; ``body`` is what is written."""

    method: str
    target: str
    host: str
    body: IO[bytes]

    @staticmethod
    async def read(reader: asyncio.StreamReader) -> _Call:
        """The next request.

        Raises:
            asyncio.IncompleteReadError: the client has none, or was killed in the middle of it.
        """
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        method, target, _ = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = tempfile.SpooledTemporaryFile(_MOST_IN_MEMORY)  # noqa: SIM115 - it goes with the call
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await reader.readuntil(b"\n")).split(b";")[0], 16):
                body.write((await reader.readexactly(size + 2))[:-2])
            await reader.readuntil(b"\n")
        else:
            body.write(await reader.readexactly(int(headers.get("content-length", "0"))))
        body.seek(0)
        return _Call(method, target, headers.get("host", ""), body)

    @cached_property
    def at(self) -> Location:
        return Location.of(unquote(urlsplit(self.target).path).removeprefix(_PREFIX))

    @cached_property
    def query(self) -> dict[str, str]:
        return {name.lower(): values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def operation(self) -> str:
        return f"{self.method} {self.query.get('op', '').upper()}"


@dataclass(frozen=True)
class _Answer:
    """What is answered: ``length`` bytes in ``chunks``, which may be read from S3 while they are sent."""

    status: HTTPStatus
    kind: str = "application/json"
    length: int = 0
    chunks: Iterator[bytes] = field(default_factory=lambda: iter(()))
    location: str = ""

    @staticmethod
    def of(told: object, status: HTTPStatus = HTTPStatus.OK) -> _Answer:
        body = json.dumps(told).encode()
        return _Answer(status, length=len(body), chunks=iter((body,)))

    @staticmethod
    def refusal(status: HTTPStatus, java_class: str, message: str) -> _Answer:
        exception = {"exception": java_class.rpartition(".")[2], "javaClassName": java_class, "message": message}
        return _Answer.of({"RemoteException": exception}, status)

    def head(self) -> bytes:
        """Hadoop makes a connection for each request, and so each ends with its answer."""
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}", "Connection: close"]
        lines += [f"Content-Type: {self.kind}", f"Content-Length: {self.length}"]
        lines += [f"Location: {self.location}"] if self.location else []
        return "\r\n".join([*lines, "", ""]).encode()


class WebHdfs:
    """The WebHDFS operations that Hadoop's client uses for reading, writing and committing.

    Of each small file it asks eighteen times in a run, so that a thread for each request, and the library's server,
    took as long as Spark itself. What is known already is answered at once; what asks S3 is done in a thread.
    """

    def __init__(self, files: S3FileSystem) -> None:
        self._files = files
        self._operations = {
            "GET GETFILESTATUS": self._status,
            "GET LISTSTATUS": self._list,
            "GET OPEN": self._open,
            "GET GET_BLOCK_LOCATIONS": self._block_locations,
            "GET GETHOMEDIRECTORY": lambda _: _Answer.of({"Path": "/"}),
            "PUT CREATE": self._create,
            "PUT MKDIRS": self._mkdirs,
            "PUT RENAME": self._rename,
            "DELETE DELETE": self._delete,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the one request of a connection."""
        # a client that is killed in the middle of a call, or has enough of a file, is no error of ours
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError):
            call = await _Call.read(reader)
            is_known = call.method == "GET" and self._files.keeps(call.at)
            answer = self._answer(call) if is_known else await asyncio.to_thread(self._answer, call)
            head = answer.head()
            while (chunk := await self._next(answer.chunks, is_known)) or head:
                writer.write(head + chunk)
                await writer.drain()
                head = b""

    @staticmethod
    async def _next(chunks: Iterator[bytes], is_known: bool) -> bytes:
        return next(chunks, b"") if is_known else await asyncio.to_thread(next, chunks, b"")

    def _answer(self, call: _Call) -> _Answer:
        try:
            return self._operations.get(call.operation, self._unknown)(call)
        except FileNotFoundError as error:
            absent = f"File does not exist: {error}"
            return _Answer.refusal(HTTPStatus.NOT_FOUND, "java.io.FileNotFoundException", absent)
        except FileExistsError as error:
            exists = "org.apache.hadoop.fs.FileAlreadyExistsException"
            return _Answer.refusal(HTTPStatus.FORBIDDEN, exists, f"File already exists: {error}")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.FORBIDDEN:
                # a HEAD's answer has no body, and so no word of its own for this
                denied = f"{error.operation_name} of {call.at}: AccessDenied: {error}"
                java_class = "org.apache.hadoop.security.AccessControlException"
                return _Answer.refusal(HTTPStatus.FORBIDDEN, java_class, denied)
            return _Answer.refusal(HTTPStatus.FORBIDDEN, "java.io.IOException", f"{call.at}: {error}")
        except (OSError, BotoCoreError) as error:
            return _Answer.refusal(HTTPStatus.FORBIDDEN, "java.io.IOException", f"{call.at}: {error}")

    @staticmethod
    def _unknown(call: _Call) -> _Answer:
        return _Answer.refusal(
            HTTPStatus.BAD_REQUEST,
            "java.lang.UnsupportedOperationException",
            f"{call.query.get('op')} of {call.at}: not a file operation of the lake on a laptop",
        )

    def _status(self, call: _Call) -> _Answer:
        found = self._files.find(call.at)
        if found is None:
            raise FileNotFoundError(str(call.at))
        return _Answer.of({"FileStatus": _file_status(found)})

    def _list(self, call: _Call) -> _Answer:
        entries = [_file_status(entry) for entry in self._files.entries(call.at)]
        return _Answer.of({"FileStatuses": {"FileStatus": entries}})

    def _open(self, call: _Call) -> _Answer:
        length, chunks = self._files.read(call.at, int(call.query.get("offset", "0")))
        return _Answer(HTTPStatus.OK, "application/octet-stream", length, chunks)

    def _block_locations(self, call: _Call) -> _Answer:
        """One block, the whole file, on no host in particular: RDDs ask before they split a file."""
        length = next(entry.size or 0 for entry in self._files.entries(call.at))
        block = {
            "block": {"blockPoolId": "s3", "blockId": 0, "generationStamp": 0, "numBytes": length},
            "startOffset": 0,
            "isCorrupt": False,
            "locations": [],
            "cachedLocations": [],
            "storageTypes": [],
            "blockToken": {"urlString": "AAAAAA"},
        }
        located = {"fileLength": length, "locatedBlocks": [block], "lastLocatedBlock": block}
        return _Answer.of({"LocatedBlocks": located | {"isUnderConstruction": False, "isLastBlockComplete": True}})

    def _create(self, call: _Call) -> _Answer:
        if "data" not in call.query:  # the protocol's first step carries no data and asks where to send it
            return _Answer(HTTPStatus.TEMPORARY_REDIRECT, location=f"http://{call.host}{call.target}&data=true")
        chunks = iter(lambda: call.body.read(_MOST_IN_MEMORY), b"")
        self._files.write(call.at, chunks, overwrite=call.query.get("overwrite") == "true")
        return _Answer(HTTPStatus.CREATED)

    def _mkdirs(self, call: _Call) -> _Answer:
        self._files.make_directory(call.at)
        return _Answer.of({"boolean": True})

    def _rename(self, call: _Call) -> _Answer:
        return _Answer.of({"boolean": self._files.rename(call.at, Location.of(call.query["destination"]))})

    def _delete(self, call: _Call) -> _Answer:
        return _Answer.of({"boolean": self._files.delete(call.at, call.query.get("recursive") == "true")})


def _file_status(entry: Entry) -> dict[str, object]:
    modified = int(entry.modified * 1000)
    return {
        "pathSuffix": entry.name,
        "type": "DIRECTORY" if entry.is_directory else "FILE",
        "length": entry.size or 0,
        "modificationTime": modified,
        "accessTime": modified,
        "blockSize": 0 if entry.is_directory else 128 << 20,
        "replication": 0 if entry.is_directory else 1,
        "permission": "755",
        "owner": "glue",
        "group": "glue",
    }


async def _serve(scratch: Path) -> None:
    s3 = boto3.client("s3", config=Config(max_pool_connections=32))
    application = WebHdfs(S3FileSystem(s3, scratch))
    server = await asyncio.start_server(application.serve, "127.0.0.1", 0, backlog=128)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve S3 as the role whose keys are in the environment, with the scratch folder that is named; print the port.

    It ends with its input, and so with the emulator, however that ends.
    """
    Thread(target=uvloop.run, args=(_serve(Path(sys.argv[1])),), daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
