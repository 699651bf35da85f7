"""One Spark script as a real process on this machine: what is fetched, configured and submitted.

The script runs unchanged under `spark-submit` (or Python, for a `pythonshell` job). All that the
laptop needs differently is configuration outside the script.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from tarn import spark
from tarn.local import webhdfs
from tarn.local.extension.clients import Clients
from tarn.local.extension.program_runs import JobError, Program, environment
from tarn.local.extension.role_sessions import RoleSession

_LOG4J = """\
rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""


@dataclass(frozen=True)
class SparkScript:
    """What is submitted: the script's URI and arguments, and URIs of what it brings; ``conf`` are ``name=value``."""

    location: str
    arguments: Sequence[str]
    modules: Sequence[str] = ()
    jars: Sequence[str] = ()
    files: Sequence[str] = ()
    conf: Sequence[str] = ()
    user: str = "hadoop"
    is_plain_python: bool = False


@contextmanager
def prepared(clients: Clients, script: SparkScript, role: RoleSession, folder: Path) -> Iterator[Program]:
    """Everything that the script needs, below ``folder``; S3 is a file system for as long as the block lasts."""
    for name in ("scratch", "temp", "conf", "code"):
        (folder / name).mkdir()
    buckets = [bucket["Name"] for bucket in clients.get("s3").list_buckets()["Buckets"]]
    with webhdfs.serving(environment(role, folder), folder / "scratch") as port:
        command = _Fetched(script, role, folder).command(webhdfs.mount_configuration(port, buckets))
        own = {
            "PYTHONPATH": str(folder / "code" / "modules"),
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_CONF_DIR": str(folder / "conf"),
            "SPARK_LOCAL_DIRS": str(folder / "temp"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "HADOOP_USER_NAME": script.user,
        }
        yield Program(command, folder / "code", environment(role, folder) | own)


class _Fetched:
    """A script's files below `folder`, fetched with its role."""

    def __init__(self, script: SparkScript, role: RoleSession, folder: Path) -> None:
        self._script, self._folder = script, folder
        self._s3 = role.client("s3")

    def command(self, mounts: Mapping[str, str]) -> list[str]:
        """Fetch the script and what it names, write the configuration; the command line to run."""
        fetched = self._fetch(self._script.location, "script")
        # `sam package` uploads a script under its hash alone, and spark-submit knows Python by the name's end
        script = fetched.rename(fetched.with_suffix(".py"))
        for uri in self._script.files:
            self._fetch(uri, "files")
        modules = [self._fetch(uri, "modules") for uri in self._script.modules]
        if self._script.is_plain_python:
            return [sys.executable, str(script), *self._script.arguments]
        jars = [self._fetch(uri, f"jars/{number}") for number, uri in enumerate(self._script.jars)]
        configuration = {**spark.settings(self._folder, jars), **mounts}
        lines = [f"{name} {value}\n" for name, value in configuration.items()]
        (self._folder / "conf" / "spark-defaults.conf").write_text("".join(lines))
        (self._folder / "conf" / "log4j2.properties").write_text(_LOG4J)
        return [
            str(_spark_home() / "bin" / "spark-submit"),
            *(part for pair in self._script.conf for part in ("--conf", pair)),
            *(["--py-files", ",".join(map(str, modules))] if modules else []),
            str(script),
            *self._script.arguments,
        ]

    def _fetch(self, uri: str, folder: str) -> Path:
        """Download an object with the job's role; each into a folder of its own kind."""
        url = urlsplit(uri)
        if url.scheme != "s3":
            raise JobError(f"{uri} is not an s3:// URI")
        target = self._folder / "code" / folder / Path(url.path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            got = self._s3.get_object(Bucket=url.netloc, Key=url.path.lstrip("/"))
        except ClientError as error:
            raise JobError(f"{uri}: {error}") from error
        with target.open("wb") as file:
            shutil.copyfileobj(got["Body"], file)
        return target


def _spark_home() -> Path:
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise JobError("pyspark is not installed: no Spark job can run here")
    return Path(spec.origin).parent
