"""The network's half of the MAC layer: obeys what devices say, and decides what to ask of them.

`hear` takes the commands of an uplink; `ask` proposes those of the answer, and `asked` is told which of them
went into it. One LinkADRReq block is open at a time; an answer, a refusal or three attempts close it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.lorawan import adr, mac
from gateway.lorawan.channels import ChannelTable
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import ADR_HISTORY, Device, LinkAdr, MacState, Session
from gateway.lorawan.errors import MacError
from gateway.lorawan.frames import MAX_FOPTS, DataFrame
from gateway.lorawan.settings import Settings
from radio.gwmp import RxPacket
from radio.lora import REQUIRED_SNR_DB
from radio.regions import Region

MAX_ATTEMPTS = 3  # of one LinkADRReq block
QUIET_UPLINKS = 48  # before a refused or unanswered block is tried anew; half of what opens default channels
STATUS_RETRY_NS = 3600 * 10**9  # an unanswered DevStatusReq
NEVER_NS = 1 << 63
_SECOND_NS = 10**9
_MAX_MARGIN_DB = 254  # LinkCheckAns; 255 is reserved


@dataclass(slots=True)
class Heard:
    """What the MAC commands of one uplink came to."""

    answers: list[mac.Command] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    agreed: bool = False  # the session's MAC state changed: store it
    status: bool = False  # battery and margin changed: store them


class MacLayer:
    def __init__(self, region: Region, settings: Settings) -> None:
        """Raises ValueError where the steering setting does not fit into one downlink."""
        self._region = region
        self._settings = settings
        self._plan = adr.plan_number(settings.uplink_channels)
        block = adr.link_adr_block(region, settings.uplink_channels, 0, 0, 1)
        if len(mac.encode(block)) > MAX_FOPTS:
            raise ValueError("uplink_channels spreads over too many groups of 16 to fit into one downlink")
        self._max_dr = region.adr_max_dr
        if settings.adr_max_dr is not None:
            self._max_dr = min(self._max_dr, settings.adr_max_dr)

    def adopt(self, session: Session) -> None:
        """A session begins, or comes from the store: it has at least the region's channels."""
        if session.mac.channels.region is None:
            session.mac.channels = ChannelTable(self._region)

    def hear(self, session: Session, data: bytes, rx: RxPacket, now: Instant) -> Heard:
        """Take the MAC commands of an uplink; those before a fault count, the fault becomes a note."""
        heard = Heard()
        try:
            commands = mac.parse_uplink(data)
        except MacError as error:
            commands = error.commands
            heard.notes.append(str(error))
        adr_answers: list[mac.LinkADRAns] = []
        for command in commands:
            match command:
                case mac.LinkADRAns():
                    adr_answers.append(command)
                case mac.LinkCheckReq():
                    margin = int(rx.lsnr_db - REQUIRED_SNR_DB[rx.modulation.sf])
                    heard.answers.append(mac.LinkCheckAns(max(0, min(_MAX_MARGIN_DB, margin)), 1))
                    heard.notes.append("LinkCheckReq")
                case mac.DevStatusAns(battery=battery, margin_db=margin_db):
                    self._status(session.device, battery, margin_db, now)
                    heard.status = True
                    heard.notes.append(f"DevStatusAns: battery {battery}, margin {margin_db} dB")
                case _:
                    heard.notes.append(f"{command.name} is not acted on")
        if adr_answers:
            self._link_adr_answered(session, adr_answers, heard)
        return heard

    def due(self, session: Session, frame: DataFrame, now: Instant) -> bool:
        """Is there anything to ask? Cheap: it is put at every uplink."""
        state = session.mac
        return (
            state.link_adr is not None
            or (state.uplinks_since_adr >= ADR_HISTORY and frame.adr and self._settings.adr)
            or state.channel_plan != self._plan
            or now.mono_ns >= session.device.status_due_ns
        )

    def ask(
        self, session: Session, frame: DataFrame, rx: RxPacket, now: Instant
    ) -> list[tuple[mac.Command, ...]]:
        """The requests worth a place in the next downlink, each a block that goes whole or not at all."""
        blocks: list[tuple[mac.Command, ...]] = []
        request = self._link_adr(session, frame, rx)
        if request is not None:
            session.mac.link_adr = request
            channels = self._settings.uplink_channels
            blocks.append(
                adr.link_adr_block(
                    self._region, channels, request.data_rate, request.tx_power, request.nb_trans
                )
            )
        if self._status_due(session.device, now):
            blocks.append((mac.DevStatusReq(),))
        return blocks

    def asked(self, session: Session, block: tuple[mac.Command, ...], now: Instant) -> None:
        """`block` went into a downlink."""
        if isinstance(block[0], mac.LinkADRReq):
            session.mac.attempts += 1
        else:
            session.device.status_due_ns = now.mono_ns + STATUS_RETRY_NS

    def _status(self, device: Device, battery: int, margin_db: int, now: Instant) -> None:
        device.battery, device.margin_db = battery, margin_db
        device.status_due_ns = self._next_status_ns(now)

    def _next_status_ns(self, now: Instant) -> int:
        interval_s = self._settings.status_interval_s
        return now.mono_ns + interval_s * _SECOND_NS if interval_s else NEVER_NS

    def _status_due(self, device: Device, now: Instant) -> bool:
        if device.status_due_ns > now.mono_ns:
            return False
        if not self._settings.status_interval_s or (device.status_due_ns == 0 and device.battery is not None):
            # Either nobody wants to know, or the answer was stored before a restart: no need to ask them all.
            device.status_due_ns = self._next_status_ns(now)
            return False
        return True

    def _link_adr(self, session: Session, frame: DataFrame, rx: RxPacket) -> LinkAdr | None:
        state = session.mac
        if state.link_adr is not None:
            if state.attempts < MAX_ATTEMPTS:
                return state.link_adr
            _close(session, quiet=True)
            return None
        data_rate = self._region.dr_of(rx.modulation)
        if data_rate is None or (session.fcnt_up or 0) < state.quiet_until_fcnt:
            return None
        wanted = data_rate, state.tx_power
        if self._settings.adr and frame.adr and state.uplinks_since_adr >= ADR_HISTORY:
            state.uplinks_since_adr = 0
            wanted = self._adapted(state, data_rate, rx)
        # A device that asks whether anybody hears it may be about to open its default channels again.
        steers = state.channel_plan != self._plan or (self._plan and frame.adr_ack_req)
        if wanted == (data_rate, state.tx_power) and not steers:
            return None
        return LinkAdr(*wanted, nb_trans=1)

    def _adapted(self, state: MacState, data_rate: int, rx: RxPacket) -> tuple[int, int]:
        margin = adr.margin_db(max(state.snr_db), rx.modulation, self._settings.adr_margin_db)
        max_dr = self._max_dr if state.max_dr is None else min(self._max_dr, state.max_dr)
        weakest = self._region.max_tx_power_index
        if state.max_tx_power is not None:
            weakest = min(weakest, state.max_tx_power)
        return adr.adapt(margin, data_rate, state.tx_power, max_dr, weakest)

    def _link_adr_answered(self, session: Session, answers: list[mac.LinkADRAns], heard: Heard) -> None:
        """One answer a request or one a block, by the device's version: all have to agree (1.0.2 and 1.1,
        5.2)."""
        state = session.mac
        request = state.link_adr
        if request is None:
            heard.notes.append("LinkADRAns without a request")
            return
        if all(answer.ok for answer in answers):
            state.tx_power, state.nb_trans = request.tx_power, request.nb_trans
            state.channel_plan = self._plan  # each block names the channels too
            state.snr_db.clear()  # what was heard at another power says nothing about this one
            heard.agreed = True
            heard.notes.append(f"LinkADRAns: DR{request.data_rate}, power {request.tx_power} accepted")
            _close(session, quiet=False)
            return
        refused = []
        if not all(answer.data_rate_ok for answer in answers):
            state.max_dr = request.data_rate - 1
            refused.append(f"DR{request.data_rate}")
        if not all(answer.power_ok for answer in answers):
            state.max_tx_power = request.tx_power - 1 if request.tx_power else 0
            refused.append(f"power {request.tx_power}")
        if not all(answer.ch_mask_ok for answer in answers):
            refused.append("the channel mask")
        heard.notes.append(f"LinkADRAns: {', '.join(refused)} refused")
        _close(session, quiet=True)


def _close(session: Session, *, quiet: bool) -> None:
    state = session.mac
    state.link_adr = None
    state.attempts = 0
    state.uplinks_since_adr = 0
    if quiet:
        state.quiet_until_fcnt = (session.fcnt_up or 0) + QUIET_UPLINKS
