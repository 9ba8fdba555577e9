"""The device's side of the MAC layer: channels, data rate, power, windows, and answers to the network's commands.

Pure: no chip, no clock. Sections are those of LoRaWAN 1.0.2; where its text leaves a choice, this device does what
LoRaMac-node does, because that is what most real devices run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.lorawan import mac
from gateway.lorawan.mac import Command
from radio.lora import LoRaModulation
from radio.regions import Region

ADR_ACK_LIMIT: Final = 64
ADR_ACK_DELAY: Final = 32
MAX_FOPTS: Final = 15
DYNAMIC_CHANNELS: Final = 16  # of a region whose plan is not fixed
_STICKY = (mac.RXParamSetupAns, mac.RXTimingSetupAns, mac.DlChannelAns)


@dataclass(frozen=True, slots=True)
class Channel:
    """One uplink channel. Its RX1 is on `downlink_hz` where a DlChannelReq has moved it."""

    freq_hz: int
    min_dr: int
    max_dr: int
    downlink_hz: int | None = None


class MacState:
    """What a session has agreed with the network; a join starts it anew."""

    def __init__(self, region: Region, dr: int, *, adr: bool, channels_hz: Sequence[int] = ()) -> None:
        """`channels_hz` narrows the region's default channels down; empty keeps them all."""
        self.region = region
        self.adr = adr
        self.dr = dr
        self.tx_power = 0  # TXPower index; 0 is the strongest
        self.nb_trans = 1
        self.rx1_dr_offset = 0
        self.rx2_freq_hz, self.rx2_dr = region.rx2
        self.rx_delay_s = 1
        self.max_duty = 1.0  # of all bands together (DutyCycleReq)
        self.adr_ack_count = 0
        self.battery = 254  # DevStatusAns
        self.last_snr_db = 0.0
        self.link_margin_db: int | None = None  # of the last LinkCheckAns
        self._subset = frozenset(channels_hz)
        self._channels = {
            index: Channel(freq_hz, min(region.uplink_data_rates), max(region.uplink_data_rates))
            for index, freq_hz in enumerate(region.uplink_channels())
        }
        self._mask = {
            i for i, each in self._channels.items() if not self._subset or each.freq_hz in self._subset
        }
        self._answers: list[Command] = []
        self._sticky: list[Command] = []
        self._asked: list[Command] = []

    @property
    def modulation(self) -> LoRaModulation:
        """Of the next uplink."""
        return self.region.uplink_data_rates[self.dr]

    @property
    def eirp_dbm(self) -> float:
        """Of the next uplink."""
        return self.region.tx_power_dbm(self.tx_power)

    def channels(self) -> list[Channel]:
        """Enabled channels that carry the present data rate; without any, all that do."""
        able = [i for i in sorted(self._channels) if self._carries(i, self.dr)]
        return [self._channels[i] for i in able if i in self._mask] or [self._channels[i] for i in able]

    def rx1(self, channel: Channel, dr: int) -> tuple[int, LoRaModulation]:
        """Frequency and modulation of the first window after an uplink on `channel`."""
        freq_hz, rx1_dr = self.region.rx1(channel.freq_hz, dr, self.rx1_dr_offset)
        return channel.downlink_hz or freq_hz, self._downlink(rx1_dr)

    def rx2(self) -> tuple[int, LoRaModulation]:
        """Frequency and modulation of the second window."""
        return self.rx2_freq_hz, self._downlink(self.rx2_dr)

    def add_cflist(self, cflist: bytes) -> None:
        """The five further frequencies of a join-accept (2.2.5 of the regional parameters, type 0).

        A list of another type, or for a region of fixed channels, is ignored.
        """
        if len(cflist) != 16 or cflist[15] != 0 or self.region.fixed_plan:
            return
        for i in range(5):
            freq_hz = int.from_bytes(cflist[3 * i : 3 * i + 3], "little") * 100
            if freq_hz:
                index = len(self.region.uplink_channels()) + i
                self._channels[index] = Channel(freq_hz, 0, 5)
                if not self._subset or freq_hz in self._subset:
                    self._mask.add(index)

    # -- uplinks -----------------------------------------------------------------------------------

    def ask_link_check(self) -> None:
        """Put a LinkCheckReq into the next uplink."""
        self._asked.append(mac.LinkCheckReq())

    def take_fopts(self) -> bytes:
        """What the next uplink has to say; answers that do not fit are dropped from the end (5)."""
        fopts = b""
        for command in (*self._sticky, *self._answers, *self._asked):
            encoded = command.encode()
            if len(fopts) + len(encoded) > MAX_FOPTS:
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
        over = self.adr_ack_count - ADR_ACK_LIMIT
        if over >= ADR_ACK_DELAY and over % ADR_ACK_DELAY == 0:
            self._back_off()
        return over >= 0

    def _back_off(self) -> None:
        """Nobody answers: louder, then slower, at last on every default channel."""
        if self.tx_power:
            self.tx_power = 0
        elif self.dr - 1 in self.region.uplink_data_rates:
            self.dr -= 1
        else:
            self.nb_trans = 1
            self._mask |= set(range(len(self.region.uplink_channels())))

    # -- downlinks ---------------------------------------------------------------------------------

    def heard(self, commands: Sequence[Command], snr_db: float) -> None:
        """A verified class A downlink with these commands: do as told and keep the answers."""
        self.adr_ack_count = 0
        self._sticky.clear()
        self.last_snr_db = snr_db
        at = 0
        while at < len(commands):
            command = commands[at]
            if isinstance(command, mac.LinkADRReq):
                block = _leading_adr(commands[at:])
                self._answers += self._link_adr(block)
                at += len(block)
                continue
            self._obey(command)
            at += 1

    def _obey(self, command: Command) -> None:
        """Commands without a case go unanswered, as TxParamSetupReq does wherever no dwell time is set."""
        match command:
            case mac.LinkCheckAns(margin_db=margin_db):
                self.link_margin_db = margin_db
            case mac.DevStatusReq():
                margin = max(-32, min(31, round(self.last_snr_db)))
                self._answers.append(mac.DevStatusAns(self.battery, margin))
            case mac.DutyCycleReq(max_dc_exponent=exponent):
                self.max_duty = 1 / (1 << exponent)
                self._answers.append(mac.DutyCycleAns())
            case mac.RXTimingSetupReq(delay_s=delay_s):
                self.rx_delay_s = delay_s
                self._sticky.append(mac.RXTimingSetupAns())
            case mac.RXParamSetupReq():
                self._sticky.append(self._rx_param_setup(command))
            case mac.NewChannelReq() if not self.region.fixed_plan:
                self._answers.append(self._new_channel(command))
            case mac.DlChannelReq() if not self.region.fixed_plan:
                self._sticky.append(self._dl_channel(command))

    def _link_adr(self, block: Sequence[mac.LinkADRReq]) -> list[Command]:
        """5.2: the masks of a block add up, the rest of the last one counts; one answer each, all alike."""
        mask: set[int] | None = set(self._mask)
        for request in block:
            mask = self._masked(mask, request)
        last = block[-1]
        keeps = not self.adr  # such a device still follows the mask
        dr = self.dr if keeps or last.data_rate == mac.KEEP else last.data_rate
        power = self.tx_power if keeps or last.tx_power == mac.KEEP else last.tx_power
        dr_ok = dr in self.region.uplink_data_rates and (
            mask is None or any(self._carries(index, dr) for index in mask)
        )
        power_ok = power <= self.region.max_tx_power_index
        if mask and dr_ok and power_ok:
            self._mask, self.dr, self.tx_power = mask, dr, power
            if not keeps:
                self.nb_trans = last.nb_trans or self.nb_trans
        return [mac.LinkADRAns(bool(mask), dr_ok, power_ok)] * len(block)

    def _masked(self, mask: set[int] | None, request: mac.LinkADRReq) -> set[int] | None:
        """One ChMask with its ChMaskCntl; None where it names channels this device does not have."""
        if mask is None:
            return None
        bits = {i for i in range(16) if request.ch_mask >> i & 1}
        control = request.ch_mask_cntl
        if not self.region.fixed_plan:
            if control == 6:
                return set(self._channels)
            return bits if control == 0 and bits <= self._channels.keys() else None
        wide = {i for i in self._channels if i >= 64}
        if control <= 3:
            return mask - set(range(16 * control, 16 * control + 16)) | {16 * control + i for i in bits}
        if control == 4:
            return mask - wide | {64 + i for i in bits if i < 8}
        if control in (6, 7):
            return (set(range(64)) if control == 6 else set()) | {64 + i for i in bits if i < 8}
        return None

    def _rx_param_setup(self, request: mac.RXParamSetupReq) -> Command:
        offsets = self.region.rx1_dr_by_offset[self.dr]
        answer = mac.RXParamSetupAns(
            channel_ok=self._in_band(request.freq_hz),
            rx2_dr_ok=request.rx2_dr in self.region.downlink_data_rates,
            rx1_dr_offset_ok=request.rx1_dr_offset < len(offsets),
        )
        if answer.channel_ok and answer.rx2_dr_ok and answer.rx1_dr_offset_ok:
            self.rx1_dr_offset = request.rx1_dr_offset
            self.rx2_freq_hz, self.rx2_dr = request.freq_hz, request.rx2_dr
        return answer

    def _new_channel(self, request: mac.NewChannelReq) -> Command:
        """5.6: default channels stay as they are; frequency 0 takes a channel away."""
        own = len(self.region.uplink_channels()) <= request.ch_index < DYNAMIC_CHANNELS
        rates = self.region.uplink_data_rates
        answer = mac.NewChannelAns(
            freq_ok=own and (request.freq_hz == 0 or self._in_band(request.freq_hz)),
            data_rate_ok=request.min_dr <= request.max_dr
            and request.min_dr in rates
            and request.max_dr in rates,
        )
        if answer.freq_ok and answer.data_rate_ok:
            if request.freq_hz:
                self._channels[request.ch_index] = Channel(request.freq_hz, request.min_dr, request.max_dr)
                self._mask.add(request.ch_index)
            else:
                self._channels.pop(request.ch_index, None)
                self._mask.discard(request.ch_index)
        return answer

    def _dl_channel(self, request: mac.DlChannelReq) -> Command:
        channel = self._channels.get(request.ch_index)
        answer = mac.DlChannelAns(freq_ok=self._in_band(request.freq_hz), uplink_exists=channel is not None)
        if channel is not None and answer.freq_ok:
            moved = Channel(channel.freq_hz, channel.min_dr, channel.max_dr, request.freq_hz)
            self._channels[request.ch_index] = moved
        return answer

    def _carries(self, index: int, dr: int) -> bool:
        channel = self._channels.get(index)
        if channel is None or not channel.min_dr <= dr <= channel.max_dr:
            return False
        if not self.region.fixed_plan:
            return True
        wide = self.region.uplink_data_rates[dr].bw_hz == 500_000
        return wide == (index >= 64)

    def _in_band(self, freq_hz: int) -> bool:
        bands = self.region.sub_bands
        return any(band.min_hz <= freq_hz <= band.max_hz for band in bands)

    def _downlink(self, dr: int) -> LoRaModulation:
        return self.region.downlink_data_rates[dr]


def _leading_adr(commands: Iterable[Command]) -> list[mac.LinkADRReq]:
    block: list[mac.LinkADRReq] = []
    for command in commands:
        if not isinstance(command, mac.LinkADRReq):
            break
        block.append(command)
    return block
