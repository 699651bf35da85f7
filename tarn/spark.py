"""Spark on this machine: what a laptop needs differently, for a job's own process and for a session inside ``tarn``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto -Dfile.encoding=UTF-8 -Djava.io.tmpdir={temp}"
SILENCE = """\
rootLogger.level = off
rootLogger.appenderRef.none.ref = none
appender.none.type = Null
appender.none.name = none
"""
"""Log4j's, for a session: what goes wrong is raised."""


class SparkError(Exception):
    """Spark cannot be started here; the message says what is missing and what to do."""


def settings(folder: Path, jars: Iterable[Path]) -> dict[str, str]:
    """Spark for two cores: no web interface, loopback only, little compilation, few partitions.

    ``jars`` come before Spark's own classes: what Glue's ``--user-jars-first`` asks for.
    """
    first = ":".join(map(str, jars))
    return {
        "spark.master": "local[*]",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.driver.extraJavaOptions": JVM.format(temp=folder / "temp"),
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": (folder / "warehouse").as_uri(),
    } | ({"spark.driver.extraClassPath": first} if first else {})


@contextmanager
def session(jars: Iterable[Path]) -> Iterator[SparkSession]:
    """A session with ``jars``, which ends with the block; one that is on already serves, and stays.

    Raises:
        SparkError: Java or pyspark is not there, or Java does not start.
    """
    try:
        from pyspark.sql import SparkSession  # noqa: PLC0415 - the light part of a check needs no Spark
    except ImportError as error:
        raise SparkError("pyspark is not installed here: run `make setup`") from error
    if running := SparkSession.getActiveSession():
        yield running
        return
    if shutil.which("java") is None:
        raise SparkError("java is not on PATH: install a Java 17 runtime, Spark and Deequ run on it")
    with tempfile.TemporaryDirectory(prefix="tarn-spark-") as name:
        folder = Path(name)
        (folder / "temp").mkdir()
        (folder / "log4j2.properties").write_text(SILENCE)
        started = _started(folder, jars)
        try:
            yield started
        finally:
            end(started)


def end(session: SparkSession) -> None:
    """Stop a session and its Java: the next one of this process has classes and settings of its own.

    What pyspark put in the place of py4j's own reading of answers goes too: it asks Spark's Java about the errors of
    every other Java, the rules' parser among them.
    """
    from py4j import java_gateway, protocol  # noqa: PLC0415
    from pyspark import SparkContext  # noqa: PLC0415

    session.stop()
    gateway: Any = SparkContext._gateway
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()
    SparkContext._gateway = SparkContext._jvm = None
    java_gateway.get_return_value = protocol.get_return_value


def _started(folder: Path, jars: Iterable[Path]) -> SparkSession:
    """A session whose Java writes into a log: what it says on its way is no news to a person."""
    from pyspark import SparkConf, SparkContext  # noqa: PLC0415
    from pyspark.errors import PySparkRuntimeError  # noqa: PLC0415
    from pyspark.java_gateway import launch_gateway  # noqa: PLC0415
    from pyspark.sql import SparkSession  # noqa: PLC0415

    configuration = SparkConf(loadDefaults=False).setAll(list(settings(folder, jars).items()))
    log = folder / "java.log"
    environment = {
        "SPARK_CONF_DIR": str(folder),
        "SPARK_LOCAL_DIRS": str(folder / "temp"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
    }
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with log.open("wb") as written:
            gateway = launch_gateway(configuration, {"stdout": written, "stderr": subprocess.STDOUT})  # type: ignore[no-untyped-call]
        context = SparkContext(conf=configuration, gateway=gateway)
    except PySparkRuntimeError as error:
        words = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] or [str(error)]
        raise SparkError(f"Spark does not start, it needs Java 17: {words[-1].strip()}") from error
    finally:
        for name in environment:
            os.environ.pop(name)
        os.environ.update({name: value for name, value in before.items() if name in environment})
    context.setLogLevel("OFF")
    return SparkSession(context)
