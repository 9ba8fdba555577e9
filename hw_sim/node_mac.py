"""The device's side of the MAC layer: data rate, power, windows, and answers to the network's commands.

Pure: no chip, no clock. Sections are those of LoRaWAN 1.0.2, or 1.1 where it says so; where the text leaves a choice,
this device does what LoRaMac-node does, because that is what most real devices run. Channels are `node_channels`.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from gateway.lorawan import mac
from gateway.lorawan.mac import Command
from gateway.lorawan.profile import Version
from hw_sim.node_channels import Channel, Channels
from hw_sim.node_config import NodeFault
from radio.lora import LoRaModulation
from radio.regions import Dwell, Region

ADR_ACK_LIMIT: Final = 64
ADR_ACK_DELAY: Final = 32
MAX_FOPTS: Final = 15
# What a data rate or power of 15 means to older devices is: no such thing
KEEPS_SINCE: Final = Version.V1_0_4
_STICKY: Final = (
    mac.RXParamSetupAns,
    mac.RXTimingSetupAns,
    mac.DlChannelAns,
    mac.TxParamSetupAns,
    mac.PingSlotChannelAns,
)
# What answers the device itself: no order that a broken one could leave undone.
_OWN_ANSWERS: Final = (
    mac.LinkCheckAns,
    mac.DeviceTimeAns,
    mac.RekeyConf,
    mac.ResetConf,
    mac.DeviceModeConf,
    mac.PingSlotInfoAns,
)


class MacState:
    """What a session has agreed with the network; a join starts it anew."""

    def __init__(
        self,
        region: Region,
        dr: int,
        *,
        adr: bool,
        channels_hz: Sequence[int] = (),
        version: Version = Version.V1_0_4,
    ) -> None:
        """`channels_hz` narrows the region's default channels down; empty keeps them all."""
        self.region = region
        self.version = version
        self.adr = adr
        self.dr = dr
        self.tx_power = 0  # TXPower index; 0 is the strongest
        self.nb_trans = 1
        self.rx1_dr_offset = 0
        self.rx2_freq_hz, self.rx2_dr = region.rx2
        self.rx_delay_s = 1
        self.max_duty = 1.0  # of all bands together (DutyCycleReq)
        self.max_eirp_dbm = region.max_eirp_dbm
        # A device that was told nothing yet keeps its own frames short, as the law might ask for it.
        self.uplink_dwell = region.uplink_dwell is not Dwell.NEVER
        self.downlink_dwell = region.downlink_dwell is Dwell.ALWAYS
        self.adr_ack_count = 0
        self.adr_ack_limit, self.adr_ack_delay = ADR_ACK_LIMIT, ADR_ACK_DELAY
        self.battery = 254  # DevStatusAns
        self.last_snr_db = 0.0
        self.link_margin_db: int | None = None  # of the last LinkCheckAns
        self.device_time: mac.DeviceTimeAns | None = None  # of the last downlink, until it is taken
        self.force_rejoin: mac.ForceRejoinReq | None = None  # until it is taken
        self.rejoin_params: mac.RejoinParamSetupReq | None = None
        self.beacon_hz: int | None = None  # None: the region's
        self.ping_slot: mac.PingSlotChannelReq | None = None
        self.ping_slots_agreed = False  # PingSlotInfoAns
        self.unanswered: list[Command] = []  # what this device heard and, by its version, does not know
        self.faults: frozenset[NodeFault] = frozenset()
        self.table = Channels(region, channels_hz)
        self._answers: list[Command] = []
        self._sticky: list[Command] = []
        self._asked: list[Command] = []
        self._indications: list[Command] = []  # each until the network has confirmed it

    @property
    def modulation(self) -> LoRaModulation:
        """Of the next uplink."""
        return self.region.uplink_data_rates[self.dr]

    @property
    def eirp_dbm(self) -> float:
        """Of the next uplink."""
        return self.max_eirp_dbm + self.region.tx_power_offset_db[self.tx_power]

    @property
    def room(self) -> int:
        """Bytes of FOpts and FRMPayload that the next uplink may have."""
        return self.region.max_payload(self.dr, dwell=self.uplink_dwell)

    def channels(self) -> list[Channel]:
        """Enabled channels that carry the present data rate; without any, all that do."""
        return self.table.usable(self.dr)

    def rx1(self, channel: Channel, dr: int) -> tuple[int, LoRaModulation]:
        """Frequency and modulation of the first window after an uplink on `channel`."""
        freq_hz, rx1_dr = self.region.rx1(channel.freq_hz, dr, self.rx1_dr_offset, dwell=self.downlink_dwell)
        return channel.downlink_hz or freq_hz, self._downlink(rx1_dr)

    def rx2(self) -> tuple[int, LoRaModulation]:
        """Frequency and modulation of the second window."""
        return self.rx2_freq_hz, self._downlink(self.rx2_dr)

    def add_cflist(self, cflist: bytes) -> None:
        """The channels of a join-accept."""
        if self.region.cflist_type == 0 or self.version >= Version.V1_0_3:  # masks came with 1.0.3
            self.table.add_cflist(cflist)

    # -- uplinks -----------------------------------------------------------------------------------

    def ask_link_check(self) -> None:
        """Put a LinkCheckReq into the next uplink."""
        self._asked.append(mac.LinkCheckReq())

    def ask_time(self) -> None:
        """Put a DeviceTimeReq into the next uplink."""
        self._asked.append(mac.DeviceTimeReq())

    def ask_ping_slots(self, periodicity: int) -> None:
        """Put a PingSlotInfoReq into the next uplink."""
        self.ping_slots_agreed = False
        self._asked.append(mac.PingSlotInfoReq(periodicity))

    def indicate(self, command: Command) -> None:
        """Say this in every uplink until the network confirms it: ResetInd, RekeyInd, DeviceModeInd."""
        self._indications = [each for each in self._indications if each.CID != command.CID] + [command]

    def indicates(self, kind: type[Command]) -> bool:
        """Is an indication of that kind still unconfirmed?"""
        return any(isinstance(each, kind) for each in self._indications)

    @property
    def owes_answers(self) -> bool:
        """Is there something to tell the network in the next uplink?"""
        return bool(self._answers or self._sticky)

    def take_fopts(self) -> bytes:
        """What the next uplink has to say; answers that do not fit are dropped from the end (5)."""
        fopts = b""
        room = min(MAX_FOPTS, self.room)
        for command in (*self._indications, *self._sticky, *self._answers, *self._asked):
            encoded = command.encode()
            if len(fopts) + len(encoded) > room:
                break
            fopts += encoded
        self._answers.clear()
        self._asked.clear()
        return fopts

    def count_uplink(self) -> bool:
        """One more new uplink nobody may have heard; True where it must ask for an answer (4.3.1.1)."""
        if not self.adr:
            return False
        self.adr_ack_count += 1
        over = self.adr_ack_count - self.adr_ack_limit
        if over >= self.adr_ack_delay and over % self.adr_ack_delay == 0:
            self._back_off()
        return over >= 0

    def _back_off(self) -> None:
        """Nobody answers: louder, then slower, at last on every default channel."""
        if self.tx_power:
            self.tx_power = 0
        elif self._usable_dr(self.dr - 1):
            self.dr -= 1
        else:
            self.nb_trans = 1
            self.table.enable_defaults()

    def _usable_dr(self, dr: int) -> bool:
        """A data rate that carries anything at all under the dwell limit."""
        return (
            dr in self.region.uplink_data_rates and self.region.max_payload(dr, dwell=self.uplink_dwell) > 0
        )

    # -- downlinks ---------------------------------------------------------------------------------

    def heard(self, commands: Sequence[Command], snr_db: float, *, class_a: bool = True) -> None:
        """A verified downlink with these commands: do as told and keep the answers.

        `class_a`: it came in one of the two windows, so the network has heard the last uplink.
        """
        self.adr_ack_count = 0
        self.last_snr_db = snr_db
        if class_a:
            self._sticky.clear()
        at = 0
        blocks = 0
        while at < len(commands):
            command = commands[at]
            if self.version < command.SINCE:  # an unknown CID: what follows cannot be read
                self.unanswered += commands[at:]
                return
            if NodeFault.IGNORES_MAC in self.faults and not isinstance(command, _OWN_ANSWERS):
                at += 1
            elif isinstance(command, mac.LinkADRReq):
                block = _leading_adr(commands[at:])
                self._answers += self._link_adr_block(block, again=blocks > 0)
                blocks += 1
                at += len(block)
            else:
                self._obey(command)
                at += 1

    def _obey(self, command: Command) -> None:
        """Commands without a case go unanswered."""
        match command:
            case mac.LinkCheckAns(margin_db=margin_db):
                self.link_margin_db = margin_db
            case mac.DeviceTimeAns():
                self.device_time = command
            case mac.DevStatusReq():
                margin = max(-32, min(31, round(self.last_snr_db)))
                self._answers.append(mac.DevStatusAns(self.battery, margin))
            case mac.DutyCycleReq(max_dc_exponent=exponent):
                self.max_duty = 1 / (1 << exponent)
                self._answers.append(mac.DutyCycleAns())
            case mac.RXTimingSetupReq(delay_s=delay_s):
                self.rx_delay_s = delay_s
                self._answer(mac.RXTimingSetupAns())
            case mac.RXParamSetupReq():
                self._answer(self._rx_param_setup(command))
            case mac.NewChannelReq() if not self.region.fixed_plan:
                self._answers.append(self.table.new_channel(command))
            case mac.DlChannelReq() if not self.region.fixed_plan:
                self._answer(self.table.dl_channel(command))
            case mac.TxParamSetupReq() if self.region.tx_param_setup:
                self.uplink_dwell, self.downlink_dwell = command.uplink_dwell, command.downlink_dwell
                self.max_eirp_dbm = min(self.region.max_eirp_dbm, mac.MAX_EIRP_DBM[command.max_eirp])
                self._answer(mac.TxParamSetupAns())
            case _:
                self._obey_further(command)

    def _obey_further(self, command: Command) -> None:
        """What only 1.1 and class B have."""
        match command:
            case mac.ADRParamSetupReq(limit_exp=limit, delay_exp=delay):
                self.adr_ack_limit, self.adr_ack_delay = 1 << limit, 1 << delay
                self._answers.append(mac.ADRParamSetupAns())
            case mac.ForceRejoinReq():
                self.force_rejoin = command
            case mac.RejoinParamSetupReq():
                self.rejoin_params = command
                self._answers.append(mac.RejoinParamSetupAns(time_ok=True))
            case mac.RekeyConf() | mac.ResetConf() | mac.DeviceModeConf():
                self._indications = [each for each in self._indications if each.CID != command.CID]
            case mac.PingSlotInfoAns():
                self.ping_slots_agreed = True
            case mac.PingSlotChannelReq():
                freq_ok = command.freq_hz == 0 or self.table.in_band(command.freq_hz)
                rate_ok = command.data_rate in self.region.downlink_data_rates
                if freq_ok and rate_ok:
                    self.ping_slot = command
                self._answer(mac.PingSlotChannelAns(freq_ok, rate_ok))
            case mac.BeaconFreqReq():
                ok = command.freq_hz == 0 or self.table.in_band(command.freq_hz)
                if ok:
                    self.beacon_hz = command.freq_hz or None
                self._answers.append(mac.BeaconFreqAns(ok))

    def _answer(self, answer: Command) -> None:
        """A sticky one: said again until a downlink shows that the network has heard it."""
        assert isinstance(answer, _STICKY)
        self._sticky = [each for each in self._sticky if type(each) is not type(answer)] + [answer]

    def _link_adr_block(self, block: Sequence[mac.LinkADRReq], *, again: bool) -> list[Command]:
        """A block goes as one; a device with ADR off takes each of its requests by itself, as LoRaMac-node does.

        `again`: not the first block of its frame, which 1.1 refuses (5.3).
        """
        if (again and self.version.is_1_1) or NodeFault.REFUSES_ADR in self.faults:
            return [mac.LinkADRAns(False, False, False)] * len(block)
        if self.adr:
            return self._link_adr(block)
        return [answer for request in block for answer in self._link_adr([request])]

    def _link_adr(self, block: Sequence[mac.LinkADRReq]) -> list[Command]:
        """5.2: the masks of a block add up, the rest of the last one counts; one answer each, all alike."""
        mask: set[int] | None = set(self.table.mask)
        for request in block:
            mask = self.table.masked(mask, request)
        last = block[-1]
        follows = self.adr  # a device without ADR still follows the mask
        dr = self._kept(last.data_rate, self.dr) if follows else self.dr
        power = self._kept(last.tx_power, self.tx_power) if follows else self.tx_power
        dr_ok = dr in self.region.uplink_data_rates and (
            mask is None or any(self.table.carries(index, dr) for index in mask)
        )
        mask_ok = mask is not None and (not dr_ok or self.table.enough(mask, dr)) and bool(mask)
        power_ok = power <= self.region.max_tx_power_index
        if mask_ok and dr_ok and power_ok:
            assert mask is not None
            self.dr, self.tx_power = dr, power
            if NodeFault.KEEPS_CHANNELS not in self.faults:
                self.table.mask = mask
            if follows:
                self.nb_trans = last.nb_trans or self.nb_trans
        return [mac.LinkADRAns(mask_ok, dr_ok, power_ok)] * len(block)

    def _kept(self, asked: int, present: int) -> int:
        return present if asked == mac.KEEP and self.version >= KEEPS_SINCE else asked

    def _rx_param_setup(self, request: mac.RXParamSetupReq) -> Command:
        offsets = self.region.rx1_dr_by_offset[self.dr]
        answer = mac.RXParamSetupAns(
            channel_ok=self.table.in_band(request.freq_hz),
            rx2_dr_ok=request.rx2_dr in self.region.downlink_data_rates,
            rx1_dr_offset_ok=request.rx1_dr_offset < len(offsets),
        )
        if answer.channel_ok and answer.rx2_dr_ok and answer.rx1_dr_offset_ok:
            self.rx1_dr_offset = request.rx1_dr_offset
            self.rx2_freq_hz, self.rx2_dr = request.freq_hz, request.rx2_dr
        return answer

    def _downlink(self, dr: int) -> LoRaModulation:
        return self.region.downlink_data_rates[dr]


def _leading_adr(commands: Iterable[Command]) -> list[mac.LinkADRReq]:
    block: list[mac.LinkADRReq] = []
    for command in commands:
        if not isinstance(command, mac.LinkADRReq):
            break
        block.append(command)
    return block
