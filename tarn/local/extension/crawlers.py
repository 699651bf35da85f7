"""Crawlers that really crawl.

Stock MiniStack turns a crawler READY after five seconds, writes SUCCEEDED, and creates nothing. Here `StartCrawler`
reads the files as the crawler's role (`crawl`) beside the server, and only what it did decides how the crawl ended: a
call that the role may not make is a FAILED crawl with the denial as its message.
https://docs.aws.amazon.com/glue/latest/webapi/API_StartCrawler.html
https://docs.aws.amazon.com/glue/latest/webapi/API_LastCrawlInfo.html
"""

from __future__ import annotations

import contextvars
import logging
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
from botocore.exceptions import BotoCoreError, ClientError

from tarn.local.extension.clients import Clients
from tarn.local.extension.crawl import Crawl, CrawlError, CrawlStopped
from tarn.local.extension.job_logs import LogShipper
from tarn.local.extension.patching import original, replace, require
from tarn.local.extension.role_sessions import RoleError, assumed
from tarn.local.settings import Settings

logger = logging.getLogger("tarn.local.glue")
GLUE = "ministack.services.glue"
LOG_GROUP = "/aws-glue/crawlers"


def install(settings: Settings) -> None:
    """Replace the start and the stop of a crawler."""
    require(GLUE, "_crawlers", "json_response", "error_response_json")
    crawls = Crawls(settings)
    replace(GLUE, "_start_crawler", crawls.start)
    replace(GLUE, "_stop_crawler", crawls.stop)
    restore = original(GLUE, "_restore_state")

    def restored(data: Any) -> Any:
        result = restore(data)
        for crawler in original(GLUE, "_crawlers").values():
            if crawler["State"] != "READY":
                _end(crawler, time.time(), "FAILED", "The emulator was stopped while the crawler ran")
        return result

    replace(GLUE, "_restore_state", restored)


class Crawls:
    """Starts and stops crawls; each has a thread of its own, and no request waits for one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients = Clients(settings)
        self._lock = threading.Lock()
        self._stopping: dict[str, threading.Event] = {}

    def start(self, request: dict[str, Any]) -> Any:
        """StartCrawler: the crawler is RUNNING, until its thread says how it ended."""
        name = request.get("Name", "")
        crawler = original(GLUE, "_crawlers").get(name)
        if crawler is None:
            return _error("EntityNotFoundException", f"Crawler entry with name {name} does not exist")
        with self._lock:
            if crawler["State"] != "READY":
                return _error("CrawlerRunningException", f"Crawler with name {name} has already started")
            crawler.update(State="RUNNING", CrawlElapsedTime=0)
            self._stopping[name] = threading.Event()
        # a new thread starts without the request's account and region, which the services look up
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._run, crawler, self._stopping[name]), name=f"crawl-{name}", daemon=True
        ).start()
        return original(GLUE, "json_response")({})

    def stop(self, request: dict[str, Any]) -> Any:
        """StopCrawler: the crawler is STOPPING, and READY with a CANCELLED crawl when its thread has noticed."""
        name = request.get("Name", "")
        crawler = original(GLUE, "_crawlers").get(name)
        if crawler is None:
            return _error("EntityNotFoundException", f"Crawler entry with name {name} does not exist")
        with self._lock:
            if crawler["State"] == "STOPPING":
                return _error("CrawlerStoppingException", f"Crawler with name {name} is already stopping")
            if crawler["State"] != "RUNNING":
                return _error("CrawlerNotRunningException", f"Crawler with name {name} is not running")
            crawler["State"] = "STOPPING"
            self._stopping[name].set()
        return original(GLUE, "json_response")({})

    def _run(self, crawler: dict[str, Any], stopping: threading.Event) -> None:
        started = time.time()
        folder = self._settings.state_dir / "glue" / f"crawl-{secrets.token_hex(8)}"
        status, message = "FAILED", ""
        try:
            folder.mkdir(parents=True)
            self._crawl(crawler, folder, stopping)
            status = "SUCCEEDED"
        except CrawlStopped:
            status = "CANCELLED"
        except (CrawlError, RoleError, ClientError, BotoCoreError, duckdb.Error, OSError, ValueError) as error:
            message = str(error)
        except Exception as error:
            logger.exception("the crawl of %s broke the crawler itself", crawler["Name"])
            message = f"{type(error).__name__}: {error}"
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with self._lock:
                _end(crawler, started, status, message)

    def _crawl(self, crawler: dict[str, Any], folder: Path, stopping: threading.Event) -> None:
        with assumed(self._settings, self._clients, crawler["Role"], "glue.amazonaws.com", "AWS-Crawler") as session:
            path = folder / "log"
            shipper = LogShipper(session.client("logs"), LOG_GROUP, crawler["Name"], path)
            with path.open("w", encoding="utf-8", buffering=1) as log:
                try:
                    Crawl(session, crawler, folder, lambda line: print(line, file=log)).run(stopping)
                except Exception as error:
                    print(f"ERROR {type(error).__name__}: {error}", file=log)
                    raise
                finally:
                    shipper.ship(final=True)


def _end(crawler: dict[str, Any], started: float, status: str, message: str) -> None:
    crawler["LastCrawl"] = {
        "Status": status,
        "LogGroup": LOG_GROUP,
        "LogStream": crawler["Name"],
        "MessagePrefix": secrets.token_hex(16),
        "StartTime": started,
    } | ({"ErrorMessage": message[:2048]} if message else {})
    crawler.update(State="READY", CrawlElapsedTime=round((time.time() - started) * 1000))


def _error(code: str, message: str) -> Any:
    return original(GLUE, "error_response_json")(code, message, 400)
