"""The live encoders, as their heartbeats tell."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.msg import Msg

from services.common.content_key import Toolchain
from services.common.errors import DomainError, Reason
from services.common.families import FAMILY_OF_LANE
from services.common.subjects import ENCODERS, Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


class LiveEncoders:
    """Which encoders are live, what they can do and what they run.

    Args:
        timeout: seconds of silence after which an encoder is no longer listed.
        on_change: called when the slots of a lane have changed.
    """

    def __init__(
        self,
        timeout: float,
        on_change: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout = timeout
        self._on_change = on_change
        self._clock = clock
        self._heard: dict[str, tuple[float, pb.Encoder]] = {}
        self._slots: dict[Lane, int] = {}
        self._tools: dict[pb.EncoderFamily.ValueType, Toolchain] = {}

    async def listen(self, nats: Client) -> None:
        """Follow the heartbeats from now on."""
        await nats.subscribe(f"{ENCODERS}.*", cb=self._on_heartbeat)

    async def _on_heartbeat(self, message: Msg) -> None:
        self.heard(task_pb2.EncoderHeartbeat.FromString(message.data).encoder)

    def heard(self, encoder: pb.Encoder) -> None:
        """Take a heartbeat."""
        # The time by our own clock: encoders' clocks may be off.
        encoder.last_seen_time.GetCurrentTime()
        self._heard[encoder.id] = (self._clock(), encoder)
        tools = Toolchain(encoder.ffmpeg_build, encoder.encoder_threads)
        self._tools |= {
            capability.family: tools
            for capability in encoder.capabilities
            if capability.available and capability.slots
        }
        slots = {lane: self.slots(lane) for lane in Lane}
        if slots != self._slots:
            self._slots = slots
            self._on_change()

    def all(self) -> list[pb.Encoder]:
        """Return the live encoders by id; the silent ones are forgotten."""
        deadline = self._clock() - self._timeout
        for encoder_id, (heard_at, _) in list(self._heard.items()):
            if heard_at < deadline:
                del self._heard[encoder_id]
        return [self._heard[encoder_id][1] for encoder_id in sorted(self._heard)]

    def slots(self, lane: Lane) -> int:
        """Return how many tasks of a lane can run at the same time."""
        working = [encoder for encoder in self.all() if not encoder.draining]
        if lane is Lane.PROBE:
            return sum(encoder.probe_slots for encoder in working)
        if lane is Lane.MUX:
            return sum(encoder.mux_slots for encoder in working)
        return sum(
            capability.slots
            for encoder in working
            for capability in encoder.capabilities
            if capability.family == FAMILY_OF_LANE[lane] and capability.available
        )

    def toolchain(self, family: pb.EncoderFamily.ValueType) -> Toolchain:
        """Return what encodes in most slots of a family: parts are looked for under its keys.

        While there is no slot, the last that was heard of.
        """
        slots: Counter[Toolchain] = Counter()
        for encoder in self.all():
            tools = Toolchain(encoder.ffmpeg_build, encoder.encoder_threads)
            for capability in encoder.capabilities:
                if capability.family == family and capability.available and not encoder.draining:
                    slots[tools] += capability.slots
        [(most, _)] = slots.most_common(1) or [(self._tools.get(family, Toolchain("", 0)), 0)]
        return most

    def gpu_live(self) -> bool:
        """Return whether any live encoder has a working GPU."""
        return self.slots(Lane.GPU) > 0

    def addresses(self) -> list[str]:
        """Return the addresses of the live encoders, in random order.

        Raises:
            DomainError: NO_ENCODER when there is none.
        """
        addresses = [encoder.address for encoder in self.all() if not encoder.draining]
        if not addresses:
            raise DomainError(
                Reason.NO_ENCODER, "No encoder is live, so the source cannot be examined."
            )
        random.shuffle(addresses)
        return addresses
