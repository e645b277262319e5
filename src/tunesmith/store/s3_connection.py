"""One S3 server, reached through s3fs: its session, its loop, and our own patience with it.

The client's own repeats are off: it gives up after seconds, and says nothing of what it met.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from functools import cache
from typing import Any, TypeVar

import s3fs
from aiobotocore.session import AioSession
from botocore.loaders import create_loader

from tunesmith.errors import TunesmithError, UserError
from tunesmith.store.s3 import Patience, S3Config
from tunesmith.store.s3_errors import Place, explain

log = logging.getLogger(__name__)

MAX_REQUESTS = 16
"""Requests at once over one connection."""

Result = TypeVar("Result")
Request = Callable[[Any], Awaitable[Result]]
"""A request, given botocore's client for S3."""


class Connection:
    """A session with one S3 server.

    Args:
        config: Which server, and as whom.
        patience: How long trouble that may pass is borne.
        mistake: The class of errors that the user can mend.
    """

    def __init__(self, config: S3Config, patience: Patience, mistake: type[UserError]) -> None:
        self.config = config
        self.patience = patience
        self.mistake = mistake
        self._files = s3fs.S3FileSystem(
            endpoint_url=config.endpoint_url or None,
            config_kwargs=_client_options(config, patience),
            skip_instance_cache=True,
            use_listings_cache=False,
            session=_open_session(config),
        )
        self._slots = asyncio.Semaphore(MAX_REQUESTS)
        self._endpoint = ""
        self._was_reached = False
        self._running: set[Future[Any]] = set()
        self._is_closed = False

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do work on s3fs's loop; an interruption ends the work too."""
        future = asyncio.run_coroutine_threadsafe(work, self._files.loop)
        self._running.add(future)
        if self._is_closed:
            future.cancel()
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise
        finally:
            self._running.discard(future)

    def close(self) -> None:
        """See `S3Client.close`."""
        self._is_closed = True
        for future in list(self._running):
            future.cancel()

    def place(self, uri: str) -> Place:
        """Where a request for `uri` goes, for messages."""
        return Place(uri, self.config, self._endpoint, self.mistake)

    async def request(self, uri: str, request: Request[Result]) -> Result:
        """Make a request; where it fails for what may pass, make it again until the deadline.

        Raises:
            UserError: What the user has to mend.
            AbsentObject, ChangedObject, UnknownCondition: What the caller has to judge.
            TunesmithError: The trouble outlived the deadline.
        """
        first_failure: float | None = None
        pause = self.patience.backoff_seconds
        while True:
            try:
                return await self._attempt(request)
            except Exception as error:
                meaning = explain(error, self.place(uri))
                if meaning is not None:
                    self._was_reached = True
                    raise meaning from error
                first_failure = first_failure or time.monotonic()
                self._give_up_if_late(uri, error, first_failure)
                log.info("%s: %s; trying again", uri, describe_trouble(error))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # so that many machines do not come back at once
            pause = min(pause * 2, self.patience.max_backoff_seconds)

    async def _attempt(self, request: Request[Result]) -> Result:
        async with self._slots:
            client = await self._files.set_session()
            self._endpoint = str(client.meta.endpoint_url)
            async with asyncio.timeout(self.patience.request_seconds):
                result = await request(client)
        self._was_reached = True
        return result

    def _give_up_if_late(self, uri: str, error: Exception, first_failure: float) -> None:
        limit = self.patience.deadline_seconds if self._was_reached else self.patience.contact_seconds
        if time.monotonic() - first_failure < limit:
            return
        server = self.place(uri).server
        advice = "it may be overloaded" if self._was_reached else "check s3.endpoint_url, and whether the server runs"
        raise TunesmithError(
            f"{uri}: {server}: {describe_trouble(error)}, for {limit:g} seconds; {advice}; then run again"
        ) from error


async def together(work: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Do all of it at once; the first failure ends the rest."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def describe_trouble(error: Exception) -> str:
    """What may pass, in a few words."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    code = response.get("Error", {}).get("Code") or response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code:
        return f"the server answers {code}"
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "no answer in time"
    if "Connect" in type(error).__name__ and "Closed" not in type(error).__name__:
        return "cannot connect"
    return f"a broken answer ({type(error).__name__})"


def _open_session(config: S3Config) -> AioSession:
    session = AioSession(profile=config.profile or None)
    session.register_component("data_loader", _load_descriptions())
    return session


@cache
def _load_descriptions() -> Any:
    """The client's descriptions of S3, parsed once a process: half a second that every session would take again."""
    return create_loader()


def _client_options(config: S3Config, patience: Patience) -> dict[str, Any]:
    """The client's options; checksums only where they are required, for older servers know no other."""
    return {
        "connect_timeout": min(10.0, patience.request_seconds),
        "read_timeout": patience.request_seconds,
        "retries": {"total_max_attempts": 1},
        "max_pool_connections": MAX_REQUESTS,
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        **({"region_name": config.region} if config.region else {}),
    }
