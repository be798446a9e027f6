"""boto3 without blocking the loop: threads, deadlines, and S3's errors in our words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError
from botocore.parsers import ResponseParserError

from services.common.errors import DomainError, Reason
from services.storage.metrics import Operation, Result, StorageMetrics
from services.storage.settings import StorageSettings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

log = structlog.get_logger()

T = TypeVar("T")

# How many requests run at a time, those that may take a minute or two apart from the others:
# quick ones must not stand behind them.
AT_ONCE = 16
LONG_AT_ONCE = 8
LONG = frozenset({Operation.LIST_PARTS, Operation.COMPLETE_UPLOAD, Operation.COPY_OBJECT})
# More than that, because a thread whose call was given up goes on until S3 falls silent: an
# answer that trickles holds its thread, but not the place of another request.
THREADS = 4 * (AT_ONCE + LONG_AT_ONCE)
CONNECT_SECONDS = 2

# S3 cannot be reached, or broke off in the middle of an answer.
_UNREACHABLE = (ConnectionError, HTTPClientError, ResponseParserError)
# Codes that ask to come back later; 5xx is one by its status.
_TRANSIENT = frozenset({"SlowDown", "Throttling", "RequestTimeout", "429"})
# The operators' to repair: until then the service is of no use, and callers should try again.
_MISCONFIGURED = frozenset(
    {
        "403",
        "AccessDenied",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "NoSuchBucket",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)


class Refused(Exception):
    """S3 refused a request with a code that the caller said it expects."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class S3:
    """Runs calls of a boto3 client in threads of its own.

    A call cannot be interrupted in its thread; the client's socket timeouts
    end it there, while `run` stops waiting at its deadline.
    """

    def __init__(self, settings: StorageSettings, metrics: StorageMetrics) -> None:
        self._metrics = metrics
        self._problems: dict[Operation, str] = {}
        # One silence; where that comes late, a retry goes on unwatched in its thread.
        self._deadline = CONNECT_SECONDS + settings.s3_timeout_seconds
        self._client = _client(settings, settings.s3_endpoint)
        # Signs for the name under which callers reach S3; never sends anything.
        self._signer = _client(settings, settings.public_s3_endpoint or settings.s3_endpoint)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._long_turns = asyncio.Semaphore(LONG_AT_ONCE)

    def close(self) -> None:
        """Drop what has not begun; what has, ends by its timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(
        self,
        operation: Operation,
        call: Callable[[S3Client], T],
        *,
        expect: frozenset[str] = frozenset(),
        deadline: float | None = None,
    ) -> T:
        """Return what `call` returns.

        Args:
            operation: what is asked, for the metrics.
            call: makes one request with the client.
            expect: S3 error codes that are answers rather than failures.
            deadline: seconds until the wait ends; default: a little over S3's longest silence.

        Raises:
            Refused: S3 answered with one of `expect`.
            DomainError: STORAGE_UNAVAILABLE.
        """
        started = time.perf_counter()
        result = Result.ERROR
        turns = self._long_turns if operation in LONG else self._turns
        try:
            async with asyncio.timeout(self._deadline if deadline is None else deadline), turns:
                loop = asyncio.get_running_loop()
                value = await loop.run_in_executor(self._threads, call, self._client)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in expect:
                result = Result.REFUSED
                self._problems.pop(operation, None)
                raise Refused(code) from None
            if not _is_unavailable(error):
                raise
            result = Result.UNAVAILABLE
            raise self._unavailable(
                operation, code, f"Object storage turned the service away ({code})."
            ) from None
        except (TimeoutError, *_UNREACHABLE) as error:
            result = Result.UNAVAILABLE
            raise self._unavailable(
                operation, type(error).__name__, "Object storage cannot be reached."
            ) from None
        except asyncio.CancelledError:
            result = Result.CANCELLED
            raise
        else:
            result = Result.OK
            self._problems.pop(operation, None)
            return value
        finally:
            self._metrics.requests.labels(operation=operation, result=result).inc()
            self._metrics.seconds.labels(operation=operation).observe(time.perf_counter() - started)

    async def sign(self, call: Callable[[S3Client], T]) -> T:
        """Return what `call` makes with the signing client: CPU work, no request to S3."""
        # Not in the threads that may all be waiting for S3.
        return await asyncio.to_thread(call, self._signer)

    def _unavailable(self, operation: Operation, cause: str, message: str) -> DomainError:
        # Health asks every second: only changes are news.
        if self._problems.get(operation) != cause:
            self._problems[operation] = cause
            log.warning("s3 request failed", operation=operation, cause=cause)
        return DomainError(Reason.STORAGE_UNAVAILABLE, message)


def _client(settings: StorageSettings, endpoint: str) -> S3Client:
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
        config=Config(
            signature_version="s3v4",
            # Works with any host name, also with servers other than AWS.
            s3={"addressing_style": "path"},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=settings.s3_timeout_seconds,
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=THREADS,
            # Newer defaults add a checksum that not every S3 server knows.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    return client


def _is_unavailable(error: ClientError) -> bool:
    code = error.response["Error"]["Code"]
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status >= 500 or code in _TRANSIENT or code in _MISCONFIGURED
