"""The live encoders, as their heartbeats tell; the clock is the test's."""

from __future__ import annotations

import pytest

from services.api.dispatcher import window_of
from services.api.encoders import LiveEncoders
from services.common.content_key import Toolchain
from services.common.errors import DomainError, Reason
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb

TIMEOUT = 10.0


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Cluster:
    """Live encoders, with the changes they have called out."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.changes = 0
        self.encoders = LiveEncoders(TIMEOUT, self._changed, clock=self.clock)

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def encoder(
    name: str,
    *,
    cpu: int = 2,
    gpu: int = 0,
    probes: int = 1,
    muxes: int = 1,
    draining: bool = False,
) -> pb.Encoder:
    return pb.Encoder(
        id=name,
        address=f"{name}:50052",
        capabilities=[
            pb.EncoderCapability(family=pb.ENCODER_FAMILY_CPU, available=cpu > 0, slots=cpu),
            # Slots that a failed trial has taken away.
            pb.EncoderCapability(family=pb.ENCODER_FAMILY_NVENC, available=gpu > 0, slots=gpu or 8),
        ],
        probe_slots=probes,
        mux_slots=muxes,
        draining=draining,
    )


def test_nothing_is_live_before_the_first_heartbeat(cluster: Cluster) -> None:
    assert cluster.encoders.all() == []
    assert [cluster.encoders.slots(lane) for lane in Lane] == [0] * len(Lane)
    assert not cluster.encoders.gpu_live()


def test_slots_are_summed_by_lane_over_what_is_available(cluster: Cluster) -> None:
    cluster.encoders.heard(encoder("b", cpu=2, probes=3, muxes=2))
    cluster.encoders.heard(encoder("a", cpu=1, gpu=4, probes=1))
    assert {lane: cluster.encoders.slots(lane) for lane in Lane} == {
        Lane.PROBE: 4,
        Lane.CPU: 3,
        Lane.GPU: 4,
        Lane.MUX: 3,
    }
    assert cluster.encoders.gpu_live()
    assert [item.id for item in cluster.encoders.all()] == ["a", "b"]


def test_family_of_a_newer_encoder_has_no_slots(cluster: Cluster) -> None:
    newer = encoder("a", cpu=2)
    newer.capabilities.add(family=99, available=True, slots=7)  # type: ignore[arg-type]
    cluster.encoders.heard(newer)
    assert [cluster.encoders.slots(lane) for lane in Lane] == [1, 2, 0, 1]


def test_gpu_whose_trial_failed_is_not_live(cluster: Cluster) -> None:
    cluster.encoders.heard(encoder("a", gpu=0))
    assert cluster.encoders.slots(Lane.GPU) == 0
    assert not cluster.encoders.gpu_live()


def test_draining_encoder_is_listed_but_takes_no_work(cluster: Cluster) -> None:
    cluster.encoders.heard(encoder("a", draining=True))
    assert [item.id for item in cluster.encoders.all()] == ["a"]
    assert [cluster.encoders.slots(lane) for lane in Lane] == [0] * len(Lane)
    with pytest.raises(DomainError) as raised:
        cluster.encoders.addresses()
    assert raised.value.reason is Reason.NO_ENCODER


def test_encoder_with_a_problem_takes_probes_alone(cluster: Cluster) -> None:
    stuck = encoder("a", gpu=2)
    stuck.problem = "The encoder's scratch disk is full."
    cluster.encoders.heard(stuck)
    assert [cluster.encoders.slots(lane) for lane in Lane] == [1, 0, 0, 0]
    assert cluster.encoders.addresses() == ["a:50052"]


def test_encoder_is_forgotten_after_the_timeout_and_not_before(cluster: Cluster) -> None:
    cluster.encoders.heard(encoder("a"))
    cluster.clock.now += TIMEOUT
    cluster.encoders.heard(encoder("b"))
    assert [item.id for item in cluster.encoders.all()] == ["a", "b"]
    cluster.clock.now += 0.001
    assert [item.id for item in cluster.encoders.all()] == ["b"]
    assert cluster.encoders.slots(Lane.CPU) == 2


def test_heartbeat_replaces_the_one_before(cluster: Cluster) -> None:
    cluster.encoders.heard(encoder("a", cpu=2))
    cluster.clock.now += TIMEOUT
    cluster.encoders.heard(encoder("a", cpu=5))
    cluster.clock.now += TIMEOUT
    assert cluster.encoders.slots(Lane.CPU) == 5


def test_dispatch_is_woken_when_slots_change_and_only_then(cluster: Cluster) -> None:
    cluster.encoders.heard(encoder("a"))
    assert cluster.changes == 1
    cluster.encoders.heard(encoder("a"))
    assert cluster.changes == 1
    cluster.encoders.heard(encoder("b"))
    assert cluster.changes == 2
    cluster.encoders.heard(encoder("a", draining=True))
    assert cluster.changes == 3
    cluster.clock.now += TIMEOUT + 1
    cluster.encoders.heard(encoder("b"))  # and `a` is gone, which had no slots
    assert cluster.changes == 3


def test_heartbeat_is_stamped_by_our_own_clock(cluster: Cluster) -> None:
    word = encoder("a")
    word.last_seen_time.seconds = 5
    cluster.encoders.heard(word)
    assert cluster.encoders.all()[0].last_seen_time.seconds > 1_600_000_000


def test_addresses_are_those_of_working_encoders_in_any_order(cluster: Cluster) -> None:
    cluster.encoders.heard(encoder("a", draining=True))
    for name in ("b", "c"):
        cluster.encoders.heard(encoder(name))
    found = {tuple(cluster.encoders.addresses()) for _ in range(100)}
    assert found == {("b:50052", "c:50052"), ("c:50052", "b:50052")}


@pytest.mark.parametrize(
    ("slots", "window"), [(0, 1), (1, 1), (2, 2), (4, 5), (10, 12), (100, 125)]
)
def test_window_is_shallow_and_never_closed(slots: int, window: int) -> None:
    assert window_of(slots) == window


def test_last_toolchain_is_remembered_while_there_is_no_slot(cluster: Cluster) -> None:
    # Encoders that restart, or that are scaled to none while there is nothing to do.
    cpu, gpu = pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC
    live = encoder("a")
    live.ffmpeg_build, live.encoder_threads = "build", 2
    cluster.encoders.heard(live)
    cluster.clock.now += TIMEOUT + 1
    assert cluster.encoders.all() == []
    assert cluster.encoders.toolchain(cpu) == Toolchain("build", 2)
    assert cluster.encoders.toolchain(gpu) == Toolchain("", 0), "it had no GPU"


def test_what_keeps_live_encoders_from_a_lane_is_told(cluster: Cluster) -> None:
    assert cluster.encoders.problem(Lane.CPU) is None, "none is live"
    stuck = encoder("b")
    stuck.problem = "The encoder's scratch disk is full."
    cluster.encoders.heard(stuck)
    assert cluster.encoders.problem(Lane.CPU) == stuck.problem
    assert cluster.encoders.problem(Lane.PROBE) is None, "it takes these nevertheless"
    assert cluster.encoders.problem(Lane.GPU) is None, "it would take none anyway"
    cluster.encoders.heard(encoder("a", draining=True))
    assert cluster.encoders.problem(Lane.PROBE) == "An encoder is going away."
    cluster.clock.now += TIMEOUT + 1
    assert cluster.encoders.problem(Lane.CPU) is None, "they have gone"
