"""One Glue job run as a real process on this machine: what is started, how it ends, what went wrong.

The script runs unchanged under `spark-submit` (or Python, for a `pythonshell` job). All that the
laptop needs differently is configuration outside the script.
https://docs.aws.amazon.com/glue/latest/dg/aws-glue-programming-etl-glue-arguments.html
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from tarn import spark
from tarn.local.extension.role_sessions import RoleSession
from tarn.local.extension.webhdfs import FileSystemServer

# Glue's own: they configure the process and mean nothing to the script.
_FOR_GLUE = {"--conf", "--extra-jars", "--extra-py-files", "--extra-files", "--user-jars-first", "--job-language"}
_UNSUPPORTED = {"--additional-python-modules", "--class"}
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
# The process ends with the emulator, however that ends: a watcher in the same process group kills
# the group when the other end of the pipe on its standard input is closed.
_UNTIL_WE_END = 'exec 3<&0 </dev/null; (cat <&3 >/dev/null; kill -s KILL 0) & exec 3<&-; exec "$@"'
_POLL_SECONDS = 0.1


class JobError(Exception):
    """The run failed, for the reason in the message."""


@dataclass(frozen=True)
class JobScript:
    """What a run executes: Glue's command, the script, its arguments, and its time."""

    command: str
    location: str
    arguments: Mapping[str, str]
    timeout_seconds: float


class JobProcess:
    """A run's process, its files below `folder` and its role."""

    def __init__(self, script: JobScript, role: RoleSession, folder: Path) -> None:
        self._script, self._role, self._folder = script, role, folder
        self._s3 = role.client("s3")
        self.output, self.errors = folder / "output.log", folder / "errors.log"

    def prepare(self, server: FileSystemServer, buckets: list[str]) -> list[str]:
        """Fetch the script and what it names, write the configuration; the command line to run."""
        for option in _UNSUPPORTED & self._script.arguments.keys():
            raise JobError(f"{option} is not supported on a laptop: jobs use the modules that are installed here")
        for name in ("temp", "conf", "code"):
            (self._folder / name).mkdir()
        fetched = self._fetch(self._script.location, "script")
        # `sam package` uploads a script under its hash alone, and spark-submit knows Python by the name's end
        script = fetched.rename(fetched.with_suffix(".py"))
        for uri in _listed(self._script.arguments.get("--extra-files")):
            self._fetch(uri, "files")
        modules = [self._fetch(uri, "modules") for uri in _listed(self._script.arguments.get("--extra-py-files"))]
        passed = [part for item in self._script.arguments.items() if item[0] not in _FOR_GLUE for part in item]
        if self._script.command == "pythonshell":
            return [sys.executable, str(script), *passed]
        uris = _listed(self._script.arguments.get("--extra-jars"))
        jars = [self._fetch(uri, f"jars/{number}") for number, uri in enumerate(uris)]
        configuration = spark.settings(self._folder, jars) | server.mount_configuration(buckets)
        lines = [f"{name} {value}\n" for name, value in configuration.items()]
        (self._folder / "conf" / "spark-defaults.conf").write_text("".join(lines))
        (self._folder / "conf" / "log4j2.properties").write_text(_LOG4J)
        return [
            str(_spark_home() / "bin" / "spark-submit"),
            *(part for pair in _spark_options(self._script.arguments.get("--conf", "")) for part in ("--conf", pair)),
            *(["--py-files", ",".join(map(str, modules))] if modules else []),
            str(script),
            *passed,
        ]

    def run(self, command: list[str], stopping: threading.Event, while_waiting: Callable[[], None]) -> str:
        """Run to the end and return the final state; `JobError` unless it was stopped, late, or exited with 0."""
        with self.output.open("wb") as output, self.errors.open("wb") as errors:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _UNTIL_WE_END, "job", *command],
                cwd=self._folder / "code",
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + self._script.timeout_seconds
            while process.poll() is None:
                if stopping.is_set():
                    return "STOPPED"
                if time.monotonic() > deadline:
                    return "TIMEOUT"
                while_waiting()
                time.sleep(_POLL_SECONDS)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdin.close()  # type: ignore[union-attr]
        if process.returncode != 0:
            raise JobError(explain(process.returncode, self.output, self.errors))
        return "SUCCEEDED"

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

    def _environment(self) -> dict[str, str]:
        """Nothing of ours but where Java and Python are; AWS only as the job's role."""
        inherited = {name: os.environ[name] for name in ("PATH", "JAVA_HOME", "TZ") if name in os.environ}
        return {
            **inherited,
            **self._role.environment(),
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder / "temp"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(self._folder / "code" / "modules"),
            "PYTHONUNBUFFERED": "1",
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_CONF_DIR": str(self._folder / "conf"),
            "SPARK_LOCAL_DIRS": str(self._folder / "temp"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "HADOOP_USER_NAME": "glue",
        }


def explain(exit_code: int, output: Path, errors: Path) -> str:
    """What a person needs to see of a failed process: its last exception with the causes, or its last words.

    The driver's exceptions are in its output under `spark-submit`, the JVM's own among its errors.
    """
    ended = f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
    texts = [path.read_text(errors="replace") for path in (output, errors)]
    for text in texts:
        _, found, traceback = text.rpartition("Traceback (most recent call last):\n")
        if found:
            raised = [line for line in traceback.splitlines() if not re.match(r"\s", line) and line.strip()]
            causes = [line for line in raised[1:] if line.startswith((": ", "Caused by: "))]  # Java's
            return "\n".join([*raised[:1], *causes])[:2_000] + f" ({ended})"
    last_words = [line for text in reversed(texts) for line in text.strip().splitlines()[-3:]]
    return "\n".join([f"The job's process ended: {ended}", *last_words])[:2_000]


def _spark_home() -> Path:
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise JobError("pyspark is not installed: no Spark job can run here")
    return Path(spec.origin).parent


def _spark_options(value: str) -> list[str]:
    """Glue takes several settings in one `--conf`, as `a=1 --conf b=2`."""
    return [pair.strip() for pair in value.split(" --conf ") if pair.strip()]


def _listed(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()]
