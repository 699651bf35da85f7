"""WebHDFS, answered from S3: the way in which a local Spark reaches `s3_filesystem`.

Hadoop's client speaks WebHDFS, so this server gives Spark the lake's buckets by configuration alone
(`mount_configuration`), with no jar and no change to a script.
https://hadoop.apache.org/docs/r3.3.4/hadoop-project-dist/hadoop-hdfs/WebHDFS.html
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tarn.local.s3_filesystem import Entry, Location, S3FileSystem

_PREFIX = "/webhdfs/v1"
_ROOT = Path(__file__).resolve().parents[2]


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


class _Server(ThreadingHTTPServer):
    """A thread per connection; a client that is killed in the middle of a call is no error of ours."""

    daemon_threads = True
    request_queue_size = 128
    """Connections that wait to be taken: Spark opens more at once than the library's five."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _WebHdfs(BaseHTTPRequestHandler):
    """The WebHDFS operations that Hadoop's client uses for reading, writing and committing."""

    files: S3FileSystem
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    """Else an answer's second packet waits for the first one's acknowledgement, which Linux delays by 40 ms."""
    wbufsize = 1 << 16

    def do_GET(self) -> None:
        self._answer(
            {
                "GETFILESTATUS": self._status,
                "LISTSTATUS": self._list,
                "OPEN": self._open,
                "GET_BLOCK_LOCATIONS": self._block_locations,
                "GETHOMEDIRECTORY": lambda: self._send({"Path": "/"}),
            }
        )

    def do_PUT(self) -> None:
        self._answer({"CREATE": self._create, "MKDIRS": self._mkdirs, "RENAME": self._rename})

    def do_DELETE(self) -> None:
        self._answer({"DELETE": self._delete})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet: the emulator's log is not for every read of every job."""

    def _answer(self, operations: dict[str, Any]) -> None:
        url = urlsplit(self.path.encode("latin-1").decode())  # Java sends what is not ASCII as it is, in UTF-8
        self._at = Location.of(unquote(url.path).removeprefix(_PREFIX))
        self._query = {name.lower(): values[-1] for name, values in parse_qs(url.query).items()}
        operation = self._query.get("op", "").upper()
        try:
            operations.get(operation, self._unknown)()
        except FileNotFoundError as error:
            self._refuse(HTTPStatus.NOT_FOUND, "java.io.FileNotFoundException", f"File does not exist: {error}")
        except FileExistsError as error:
            exists = "org.apache.hadoop.fs.FileAlreadyExistsException"
            self._refuse(HTTPStatus.FORBIDDEN, exists, f"File already exists: {error}")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.FORBIDDEN:
                # a HEAD's answer has no body, and so no word of its own for this
                denied = f"{error.operation_name} of {self._at}: AccessDenied: {error}"
                self._refuse(HTTPStatus.FORBIDDEN, "org.apache.hadoop.security.AccessControlException", denied)
            else:
                self._refuse(HTTPStatus.FORBIDDEN, "java.io.IOException", f"{self._at}: {error}")
        except ConnectionError:
            self.close_connection = True  # the client had enough of the file
        except (OSError, BotoCoreError) as error:
            self._refuse(HTTPStatus.FORBIDDEN, "java.io.IOException", f"{self._at}: {error}")

    def _unknown(self) -> None:
        self._refuse(
            HTTPStatus.BAD_REQUEST,
            "java.lang.UnsupportedOperationException",
            f"{self._query.get('op')} of {self._at}: not a file operation of the lake on a laptop",
        )

    def _status(self) -> None:
        found = self.files.find(self._at)
        if found is None:
            raise FileNotFoundError(str(self._at))
        self._send({"FileStatus": _file_status(found)})

    def _list(self) -> None:
        entries = [_file_status(entry) for entry in self.files.entries(self._at)]
        self._send({"FileStatuses": {"FileStatus": entries}})

    def _open(self) -> None:
        length, chunks = self.files.read(self._at, int(self._query.get("offset", "0")))
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(chunk)

    def _block_locations(self) -> None:
        """One block, the whole file, on no host in particular: RDDs ask before they split a file."""
        length = next(entry.size or 0 for entry in self.files.entries(self._at))
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
        self._send({"LocatedBlocks": located | {"isUnderConstruction": False, "isLastBlockComplete": True}})

    def _create(self) -> None:
        if "data" not in self._query:  # the protocol's first step carries no data and asks where to send it
            self.send_response(HTTPStatus.TEMPORARY_REDIRECT)
            self.send_header("Location", f"http://{self.headers['Host']}{self.path}&data=true")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.files.write(self._at, self._body(), overwrite=self._query.get("overwrite") == "true")
        self._send(None, HTTPStatus.CREATED)

    def _mkdirs(self) -> None:
        self.files.make_directory(self._at)
        self._send({"boolean": True})

    def _rename(self) -> None:
        self._send({"boolean": self.files.rename(self._at, Location.of(self._query["destination"]))})

    def _delete(self) -> None:
        recursive = self._query.get("recursive") == "true"
        self._send({"boolean": self.files.delete(self._at, recursive)})

    def _body(self) -> Iterator[bytes]:
        """The request's body, which Hadoop sends in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            yield self.rfile.read(int(self.headers.get("Content-Length", "0")))
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _send(self, answer: object, status: HTTPStatus = HTTPStatus.OK) -> None:
        body = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, java_class: str, message: str) -> None:
        exception = {"exception": java_class.rpartition(".")[2], "javaClassName": java_class, "message": message}
        self._send({"RemoteException": exception}, status)


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


def main() -> None:
    """Serve S3 as the role whose keys are in the environment, with the scratch folder that is named; print the port.

    It ends with its input, and so with the emulator, however that ends.
    """
    s3 = boto3.client("s3", config=Config(max_pool_connections=32))
    handler = type("Handler", (_WebHdfs,), {"files": S3FileSystem(s3, Path(sys.argv[1]))})
    server = _Server(("127.0.0.1", 0), handler)
    print(server.server_port, flush=True)
    Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
