"""Server interceptors: domain errors to gRPC status, RPC metrics, log context."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import structlog
from grpc.aio import ServicerContext

from services.common import status
from services.common.errors import DomainError, Reason
from services.common.metrics import RpcMetrics

log = structlog.get_logger()

# Quoted: generic in the stubs only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

# How long a message of a stream may wait for its caller to read. A caller who is only slow, or
# loses its connection for a moment, takes less; another one has stopped reading, and would keep
# its place among the watches for as long as its connection lives.
WRITE_SECONDS = 120.0


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Answers `DomainError` with its status and details, everything else with INTERNAL.

    Unknown errors are logged with their trace, once, here; the caller gets a
    fixed text, because an exception's text may hold what is not theirs.

    Args:
        unary_limit: seconds that a unary call may take, whatever its caller allows. Streams have
            none: they end with what they tell of, or with their connection.
        write_limit: seconds after which a stream ends that its caller does not read.
    """

    def __init__(
        self, metrics: RpcMetrics, *, unary_limit: float, write_limit: float = WRITE_SECONDS
    ) -> None:
        self._metrics = metrics
        self._unary_limit = unary_limit
        self._write_limit = write_limit

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the handler of one call; our services have unary requests only."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        # None for a method that no service has: grpc answers UNIMPLEMENTED.
        if handler is None or not method.startswith("/videoexport."):
            return handler
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._wrap_unary(method, handler.unary_unary),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.unary_stream_rpc_method_handler(
            self._wrap_stream(method, handler.unary_stream),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _wrap_unary(self, method: str, behavior: Any) -> Any:
        async def unary(request: Any, context: ServicerContext[Any, Any]) -> Any:
            started = time.perf_counter()
            code = grpc.StatusCode.OK
            try:
                async with asyncio.timeout(self._unary_limit) as limit:
                    return await behavior(request, context)
            except Exception as raised:
                # A TimeoutError of the handler's own is a defect: it has not said what it means.
                error = self._too_long() if limit.expired() else self._domain_error(method, raised)
                code = error.status
                await self._abort(context, error)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            finally:
                self._metrics.observe(method, code, time.perf_counter() - started)

        return unary

    def _wrap_stream(self, method: str, behavior: Any) -> Any:
        async def stream(request: Any, context: ServicerContext[Any, Any]) -> None:
            responses = answers(request, context)
            try:
                async for response in responses:
                    async with asyncio.timeout(self._write_limit) as limit:
                        await context.write(response)
            except TimeoutError:
                if not limit.expired():
                    raise
                # First of all it gives up its place: the status stands behind the message, so
                # that it is sent when the caller reads again, or never.
                await responses.aclose()
                log.info("stream ended: its caller does not read", method=method)
                await self._abort(context, self._not_read())
            finally:
                await responses.aclose()

        async def answers(
            request: Any, context: ServicerContext[Any, Any]
        ) -> AsyncGenerator[Any, None]:
            started = time.perf_counter()
            code = grpc.StatusCode.OK
            responses = behavior(request, context)
            try:
                async for response in responses:
                    yield response
            except Exception as raised:
                error = self._domain_error(method, raised)
                code = error.status
                await self._abort(context, error)
            except (asyncio.CancelledError, GeneratorExit):
                # The latter where a message could not be written.
                code = grpc.StatusCode.CANCELLED
                raise
            finally:
                await responses.aclose()
                self._metrics.observe(method, code, time.perf_counter() - started)

        return stream

    def _domain_error(self, method: str, raised: Exception) -> DomainError:
        if isinstance(raised, DomainError):
            error = raised
        else:
            log.error("rpc failed", method=method, exc_info=raised)
            error = DomainError(Reason.INTERNAL, "The service met an internal error.")
        self._metrics.errors.labels(reason=error.reason.value).inc()
        return error

    def _too_long(self) -> DomainError:
        self._metrics.errors.labels(reason=Reason.TIME_LIMIT.value).inc()
        return DomainError(
            Reason.TIME_LIMIT, f"The call was not done after {self._unary_limit:g} s."
        )

    def _not_read(self) -> DomainError:
        self._metrics.errors.labels(reason=Reason.TIME_LIMIT.value).inc()
        return DomainError(
            Reason.TIME_LIMIT, f"The stream was not read for {self._write_limit:g} s; call again."
        )

    async def _abort(self, context: ServicerContext[Any, Any], error: DomainError) -> None:
        details = status.to_status(error, max_bytes=_accepted_bytes(context))
        metadata = ((status.DETAILS_KEY, details.SerializeToString()),)
        await context.abort(error.status, details.message, metadata)


def _accepted_bytes(context: ServicerContext[Any, Any]) -> int:
    for key, value in context.invocation_metadata() or ():
        # Bounded: int() refuses numbers of thousands of digits.
        if key == status.MAX_DETAILS_KEY and re.fullmatch(r"[0-9]{1,9}", str(value)):
            return min(int(value), status.CEILING_MAX_DETAILS)
    return status.DEFAULT_MAX_DETAILS
