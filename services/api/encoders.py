"""The live encoders, as their heartbeats tell."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nats.aio.client import Client
from nats.aio.msg import Msg

from services.common.content_key import RECIPE_VERSION, Toolchain
from services.common.errors import DomainError, Reason
from services.common.families import LANE_OF_FAMILY, lacking_codec
from services.common.subjects import ENCODERS, HELLO, Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


@dataclass(frozen=True, slots=True)
class _Heard:
    """An encoder as it said last, and when, by our own clock."""

    at: float
    encoder: pb.Encoder
    slots: dict[Lane, int]


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
        self._heard: dict[str, _Heard] = {}
        self._slots: dict[Lane, int] = {}
        self._tools: dict[pb.EncoderFamily.ValueType, Toolchain] = {}

    async def listen(self, nats: Client) -> None:
        """Follow the heartbeats from now on, and have every encoder say at once who it is.

        Until the next one comes by itself, exports would be planned as if there were none.
        """
        await nats.subscribe(f"{ENCODERS}.*", cb=self._on_heartbeat)
        await nats.publish(HELLO, b"")

    async def _on_heartbeat(self, message: Msg) -> None:
        self.heard(task_pb2.EncoderHeartbeat.FromString(message.data).encoder)

    def heard(self, encoder: pb.Encoder) -> None:
        """Take a heartbeat."""
        # The time by our own clock: encoders' clocks may be off.
        encoder.last_seen_time.GetCurrentTime()
        before = self._heard.get(encoder.id)
        heard = _Heard(self._clock(), encoder, _slots_of(encoder))
        self._heard[encoder.id] = heard
        tools = Toolchain(encoder.ffmpeg_build, encoder.encoder_threads)
        self._tools |= {
            capability.family: tools
            for capability in encoder.capabilities
            if capability.available and capability.slots
        }
        # With hundreds of encoders, most heartbeats change nothing.
        if before is None or before.slots != heard.slots or self._any_silent():
            self._sum_up()

    def _sum_up(self) -> None:
        self.all()
        slots = {lane: self.slots(lane) for lane in Lane}
        if slots != self._slots:
            self._slots = slots
            self._on_change()

    def _any_silent(self) -> bool:
        deadline = self._clock() - self._timeout
        return any(heard.at < deadline for heard in self._heard.values())

    def all(self) -> list[pb.Encoder]:
        """Return the live encoders by id; the silent ones are forgotten."""
        deadline = self._clock() - self._timeout
        for encoder_id, heard in list(self._heard.items()):
            if heard.at < deadline:
                del self._heard[encoder_id]
        return [self._heard[encoder_id].encoder for encoder_id in sorted(self._heard)]

    def slots(self, lane: Lane) -> int:
        """Return how many tasks of a lane can run at the same time."""
        deadline = self._clock() - self._timeout
        return sum(heard.slots[lane] for heard in self._heard.values() if heard.at >= deadline)

    def oldest_recipe(self, lane: Lane) -> int:
        """Return the least that an encoder of a lane can be asked for; all, where none is live."""
        return min(self._recipes(lane), default=RECIPE_VERSION)

    def newest_recipe(self, lane: Lane) -> int:
        """Return the most that an encoder of a lane can be asked for; 0 where none is live."""
        return max(self._recipes(lane), default=0)

    def _recipes(self, lane: Lane) -> Iterator[int]:
        """Yield what the encoders that take tasks of a lane can be asked for."""
        for encoder in self.all():
            if _built_for(encoder)[lane] and not encoder.draining:
                yield encoder.recipe_version

    def problem(self, lane: Lane) -> str | None:
        """Return what keeps a live encoder from a lane that it is made for, of the first such."""
        for encoder in self.all():
            if _built_for(encoder)[lane] and not _slots_of(encoder)[lane]:
                return encoder.problem or "An encoder is going away."
        return None

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

    def codec_problem(
        self,
        family: pb.EncoderFamily.ValueType,
        codec: pb.VideoCodec.ValueType,
        *,
        ten_bit: bool,
    ) -> str | None:
        """Return why a family cannot make pictures of a codec, as a clause; None where it can.

        Whichever encoder has a free slot takes a task, so all that have the family must.
        """
        for encoder in self.all():
            if not encoder.draining:
                lacking = lacking_codec(encoder.capabilities, family, codec, ten_bit=ten_bit)
                if lacking is not None:
                    return f"not every live encoder makes {lacking}"
        return None

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


def _slots_of(encoder: pb.Encoder) -> dict[Lane, int]:
    """Return what an encoder takes on at the same time, by lane."""
    slots = dict.fromkeys(Lane, 0)
    if encoder.draining:
        return slots
    if encoder.problem:
        return slots | {Lane.PROBE: encoder.probe_slots}
    return _built_for(encoder)


def _built_for(encoder: pb.Encoder) -> dict[Lane, int]:
    """Return what an encoder could take on if nothing kept it from it, by lane."""
    slots = dict.fromkeys(Lane, 0)
    slots[Lane.PROBE] = encoder.probe_slots
    slots[Lane.MUX] = encoder.mux_slots
    for capability in encoder.capabilities:
        # A newer encoder may have a family that we do not know.
        lane = LANE_OF_FAMILY.get(capability.family)
        if lane is not None and capability.available:
            slots[lane] += capability.slots
    return slots
