"""The air between the antennas: who hears which frame, how well, and who drowns whom.

A chip hands over a waveform and a payload when it sends, and its receiver when it listens. Per frame and
listening receiver that matches, the air decides three times: at the fifth upchirp (lock), at the end of the
header, and at the end of the payload. A locked receiver is busy; until the header begins, a stronger frame
still takes it over.
"""

import random
from collections.abc import Iterator

from hw_sim.errors import KernelError
from hw_sim.false_headers import FalseHeaders
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings, Antenna, Bank, Burst, Flight, Link, Links, Lock, Station
from hw_sim.mobility import Way
from hw_sim.modem import Listening, Modem, Packet
from hw_sim.phy import MIN_PREAMBLE_SYMBOLS, Waveform
from hw_sim.propagation import noise_floor_dbm, to_dbm, to_mw
from hw_sim.records import Fate, FrameRecord, ListeningSpan, NoiseBurst, Reception, Records


class Air:
    """One shared medium. `add` connects a chip; `records` tells what became of every frame."""

    def __init__(self, kernel: Kernel, settings: AirSettings | None = None) -> None:
        self.kernel = kernel
        self.settings = settings or AirSettings()
        self.records = Records(self.settings.keep_frames)
        self._stations: dict[Modem, Station] = {}
        self._listening: dict[Modem, Station] = {}
        self._banks: list[Bank] = []
        self._active: list[Flight] = []
        self._bursts: list[Burst] = []
        self._sent = 0
        self._bursts_sent = 0
        self.links = Links(kernel, self.settings)
        self._noise = kernel.rng("air/noise")
        rate = self.settings.false_headers_per_hour
        self._false_headers = FalseHeaders(kernel, rate, self._listen_again) if rate > 0 else None

    def add(
        self,
        chip: Modem,
        x_m: float = 0.0,
        y_m: float = 0.0,
        antenna_gain_dbi: float = 0.0,
        group: str | None = None,
        way: Way | None = None,
    ) -> None:
        """Put a chip's antenna at a place or on a way; chips of one `group` share a mast, which deafens them to weak
        frames while one of them sends.
        """
        if chip.name in self.records:
            raise KernelError(f"there is already a chip named {chip.name!r} on the air")
        station = Station(chip.name, x_m, y_m, antenna_gain_dbi, group, way, chip=chip)
        self._stations[chip] = station
        self.records.add(chip.name)
        chip.medium = self
        if self._false_headers is not None:
            self._false_headers.add(station)

    def add_bank(self, bank: Bank) -> None:
        """Connect a concentrator: `bank.station` is its antenna. It is deaf until `listen_bank`."""
        name = bank.station.name
        if name in self.records:
            raise KernelError(f"there is already a chip named {name!r} on the air")
        self._banks.append(bank)
        self.records.add(name)

    def listening_spans(self) -> list[ListeningSpan]:
        """Receivers that are on now, up to now."""
        return [_span(station, self.kernel.now_ns) for station in self._listening.values()]

    def sending(self) -> set[str]:
        """Who has a carrier on the air now."""
        return {flight.sender.name for flight in self._active}

    # -- noise ---------------------------------------------------------------------------------------

    def make_noise(
        self, source: Antenna, duration_ns: int, freq_hz: float, bw_hz: int, power_dbm: float
    ) -> None:
        """Flat noise of so much power from a place that holds no chip, from now on."""
        self._bursts_sent += 1
        now = self.kernel.now_ns
        burst = Burst(self._bursts_sent, source, now, now + duration_ns, freq_hz, bw_hz, power_dbm)
        self._bursts.append(burst)
        for flight in self._active:
            flight.bursts.append(burst)
        self.kernel.after(duration_ns, lambda: self._bursts.remove(burst))
        for observer in self.records.noise_observers:
            observer(NoiseBurst(source.name, now, burst.end_ns, round(freq_hz), bw_hz))

    # -- what chips call ---------------------------------------------------------------------------

    def transmit(self, chip: Modem, wave: Waveform, payload: bytes, power_dbm: float) -> None:
        """A chip's first symbol leaves now."""
        self.launch(self._stations[chip], wave, payload, power_dbm)

    def launch(self, sender: Station, wave: Waveform, payload: bytes, power_dbm: float) -> None:
        """An antenna's first symbol leaves now."""
        now = self.kernel.now_ns
        airtime_ns = wave.airtime_ns()
        self._sent += 1
        record = FrameRecord(
            number=self._sent,
            sender=sender.name,
            start_ns=now,
            airtime_ns=airtime_ns,
            freq_hz=round(wave.freq_hz),
            modulation=wave.modulation,
            iq_inverted=wave.iq_inverted,
            crc=wave.crc,
            power_dbm=power_dbm,
            payload=payload,
        )
        flight = Flight(record, wave, sender, now + airtime_ns)
        for other in self._active:
            other.others.append(flight)
            flight.others.append(other)
        flight.bursts.extend(self._bursts)
        self._active.append(flight)
        flight.ending = self.kernel.after(airtime_ns, lambda: self._end(flight))
        for station in self._hearers(wave):
            self._consider(flight, station)

    def abort(self, chip: Modem) -> None:
        """A chip's carrier stops mid-frame."""
        for flight in self._active:
            if flight.sender.chip is chip:
                now = self.kernel.now_ns
                self.kernel.cancel(flight.ending)
                flight.end_ns = now
                flight.record.aborted = True
                flight.record.airtime_ns = now - flight.record.start_ns
                for station in self._hearers(flight.wave):
                    self._mark_truncated(flight, station)
                self._end(flight)
                return

    def listen(self, chip: Modem) -> None:
        """A chip's receiver is on from now; frames under way may still have preamble enough."""
        station = self._stations[chip]
        station.since_ns = self.kernel.now_ns
        self._listening[chip] = station
        for flight in self._active:
            self._consider(flight, station)

    def unlisten(self, chip: Modem) -> None:
        """A chip's receiver goes off; a frame it was receiving is lost to it."""
        station = self._listening.pop(chip)
        for observer in self.records.listening_observers:
            observer(_span(station, self.kernel.now_ns))
        self._drop(station)

    def listen_bank(self, bank: Bank) -> None:
        """A concentrator's receivers are on from now."""
        for flight in self._active:
            self._consider(flight, bank.station_for(flight.wave))

    def unlisten_bank(self, bank: Bank) -> None:
        """They go off; the frames they were receiving are lost to them."""
        for station in bank.stations():
            self._drop(station)

    def activity(self, chip: Modem, wave: Waveform, start_ns: int, end_ns: int) -> bool:
        """Channel activity detection: was a matching preamble on the air all the time, and strong enough?"""
        station = self._stations[chip]
        for flight in self._active:
            record = flight.record
            if (
                record.start_ns <= start_ns
                and end_ns <= flight.header_start_ns
                and _chirps_match(flight.wave, wave)
            ):
                link = self.links.link(flight, station)
                if self.links.snr_db(link, wave) >= self.links.needed_db(link, wave):
                    return True
        return False

    def rssi_dbm(self, chip: Modem, freq_hz: float, bw_hz: int) -> float:
        """Power in a channel at this instant: noise, which flickers, and every signal in it."""
        station = self._stations[chip]
        level = to_mw(noise_floor_dbm(bw_hz) + self._noise.gauss(0, 1))
        if self._active or self._bursts:
            level += self.links.strangers_mw(self._active, self._bursts, station, freq_hz, bw_hz)
        return to_dbm(level)

    # -- one frame at one receiver -----------------------------------------------------------------

    def _hearers(self, wave: Waveform) -> Iterator[Station]:
        """Whoever might hear a frame like this."""
        yield from self._listening.values()
        for bank in self._banks:
            yield bank.station_for(wave)

    def _drop(self, station: Station) -> None:
        """A receiver that goes off loses what it had locked to."""
        lock, station.lock = station.lock, None
        if lock is not None:
            self.kernel.cancel(lock.event)
            if lock.flight is not None:
                self._settle(lock.flight, station, Fate.DEAF)

    def _consider(self, flight: Flight, station: Station) -> None:
        """Can this receiver lock to this frame? If so, decide at its fifth upchirp."""
        listening = station.chip.listening
        if listening is None or flight.sender is station:
            return
        wave = flight.wave
        if not (
            listening.detector_fits
            and _chirps_match(wave, listening.wave)
            and _frames_match(wave, listening.wave)
        ):
            self._mark(flight, station, Fate.NOT_MATCHED)
            return
        start_ns = flight.record.start_ns
        lock_ns = max(start_ns, listening.since_ns) + wave.symbols_ns(4 * MIN_PREAMBLE_SYMBOLS)
        if lock_ns > start_ns + wave.symbols_ns(4 * wave.preamble):
            return
        self.kernel.at(lock_ns, lambda: self._try_lock(flight, station, listening))

    def _try_lock(self, flight: Flight, station: Station, listening: Listening) -> None:
        now = self.kernel.now_ns
        window_ns = flight.wave.symbols_ns(4 * MIN_PREAMBLE_SYMBOLS)
        if station.chip.listening is not listening or flight.record.aborted:
            return
        if now - listening.since_ns < window_ns:
            return  # it was busy until a moment ago; a later decision is queued
        current = station.lock
        if current is not None and (current.flight is None or now >= current.flight.header_start_ns):
            self._mark(flight, station, Fate.DEAF if current.flight is None else Fate.COLLIDED)
            return
        link = self.links.link(flight, station)
        needed_db = self.links.needed_db(link, flight.wave) - self.settings.lock_margin_db
        if self.links.snr_db(link, flight.wave) - listening.loss_db < needed_db:
            self._mark(flight, station, Fate.BELOW_SENSITIVITY)
            return
        disturbance = self.links.disturbance(flight, station, now - window_ns, now, needed_db)
        if disturbance is not None:
            self._mark(flight, station, disturbance[0])
            self._retry_lock(flight, station, listening)
            return
        if current is not None:
            self._let_go(station, Fate.COLLIDED)
        elif station.bank is not None and not station.bank.has_room(station):
            self._mark(flight, station, Fate.DEAF)
            return
        self._lock(flight, station, listening)

    def _retry_lock(self, flight: Flight, station: Station, listening: Listening) -> None:
        """A symbol later the last five upchirps may be clean, while there are upchirps left."""
        wave = flight.wave
        next_ns = self.kernel.now_ns + wave.symbol_ns
        if next_ns <= flight.record.start_ns + wave.symbols_ns(4 * wave.preamble):
            self.kernel.at(next_ns, lambda: self._try_lock(flight, station, listening))

    def _lock(self, flight: Flight, station: Station, listening: Listening) -> None:
        lock = Lock(flight, listening)
        station.lock = lock
        flight.open += 1
        station.chip.preamble_locked()
        if listening.wave.implicit_header:
            body_ns = listening.wave.symbols_ns(4 * listening.wave.payload_symbols())
            end_ns = flight.header_start_ns + body_ns
            lock.event = self.kernel.at(end_ns, lambda: self._finish(station, lock, flight))
        else:
            header_end_ns = flight.record.start_ns + flight.wave.header_ns()
            lock.event = self.kernel.at(header_end_ns, lambda: self._header(station, lock, flight))

    def _header(self, station: Station, lock: Lock, flight: Flight) -> None:
        wave, now = flight.wave, self.kernel.now_ns
        if flight.end_ns < now:
            self._lose(station, Fate.TRUNCATED)
            return
        if self._critical_part_lost(flight, station, now):
            return
        if wave.implicit_header or not station.chip.header_received(wave.length, wave.modulation.cr):
            self._lose(station, Fate.NOT_MATCHED)
            return
        if station.lock is lock:  # whoever watches ValidHeader may have switched the receiver off
            end_ns = flight.record.start_ns + wave.airtime_ns()
            lock.event = self.kernel.at(end_ns, lambda: self._finish(station, lock, flight))

    def _critical_part_lost(self, flight: Flight, station: Station, until_ns: int) -> bool:
        """Was the end of the preamble or the header drowned? Then the lock is gone."""
        critical_quarters = round(4 * self.settings.interference.critical_symbols)
        from_ns = flight.header_start_ns - flight.wave.symbols_ns(critical_quarters)
        link = self.links.link(flight, station)
        needed_db = self.links.needed_db(link, flight.wave) - self.settings.lock_margin_db
        disturbance = self.links.disturbance(flight, station, from_ns, until_ns, needed_db)
        if disturbance is None:
            return False
        self._lose(station, disturbance[0])
        return True

    def _finish(self, station: Station, lock: Lock, flight: Flight) -> None:
        """The last symbol: what the demodulator makes of it, and when RxDone follows."""
        heard, now = lock.listening.wave, self.kernel.now_ns
        if heard.implicit_header and self._critical_part_lost(flight, station, flight.header_start_ns):
            return
        link = self.links.link(flight, station)
        snr_db = self.links.snr_db(link, flight.wave) - lock.listening.loss_db
        good = self._payload_survives(flight, station, lock.listening, snr_db)
        payload = self._payload_heard(flight, heard, link, good)
        crc_present = heard.crc if heard.implicit_header else flight.wave.crc
        packet = Packet(
            payload=payload,
            crc_present=crc_present,
            crc_good=good and payload == flight.record.payload,
            rssi_dbm=link.power_dbm,
            snr_db=min(snr_db, self.settings.snr_ceiling_db),
            freq_error_hz=flight.wave.freq_hz - heard.freq_hz,
        )
        latency_ns = station.chip.rx_done_latency_ns()
        lock.event = self.kernel.after(latency_ns, lambda: self._deliver(station, flight, packet, now))

    def _payload_survives(
        self, flight: Flight, station: Station, listening: Listening, snr_db: float
    ) -> bool:
        sent, heard = flight.wave, listening.wave
        if self.links.destroyed(flight):
            return False
        if flight.record.aborted or sent.ldro != heard.ldro or sent.implicit_header != heard.implicit_header:
            return False
        if sent.implicit_header and (sent.modulation.cr != heard.modulation.cr or heard.crc > sent.crc):
            return False
        needed_db = self.links.needed_db(self.links.link(flight, station), sent)
        if snr_db < needed_db:
            return False
        body_from = (
            flight.header_start_ns if sent.implicit_header else flight.record.start_ns + sent.header_ns()
        )
        return self.links.payload_survives(flight, station, body_from, needed_db)

    def _payload_heard(self, flight: Flight, heard: Waveform, link: Link, good: bool) -> bytes:
        """The bytes as demodulated: damaged where the frame is, cut or filled to an implicit length."""
        payload = bytearray(flight.record.payload)
        rng = random.Random(link.damage_seed)
        if not good and payload:
            for _ in range(1 + len(payload) // 8):
                payload[rng.randrange(len(payload))] ^= rng.randrange(1, 256)
            if payload == flight.record.payload:
                payload[0] ^= 1
        if heard.implicit_header:
            payload = payload[: heard.length] + rng.randbytes(max(0, heard.length - len(payload)))
        return bytes(payload)

    def _deliver(self, station: Station, flight: Flight, packet: Packet, end_ns: int) -> None:
        chip = station.chip
        lock, station.lock = station.lock, None
        good = packet.crc_good if packet.crc_present else packet.payload == flight.record.payload
        self._settle(flight, station, Fate.RECEIVED if good else Fate.CRC_ERROR)
        chip.packet_received(packet)
        assert lock is not None
        self._listen_again(station, lock.listening, end_ns)

    # -- losing, letting go, keeping books -----------------------------------------------------------

    def _lose(self, station: Station, fate: Fate) -> None:
        """A lock leads nowhere; the receiver searches on."""
        lock = station.lock
        assert lock is not None
        self._let_go(station, fate)
        station.chip.lock_lost()
        self._listen_again(station, lock.listening, self.kernel.now_ns)

    def _let_go(self, station: Station, fate: Fate) -> None:
        lock, station.lock = station.lock, None
        assert lock is not None
        self.kernel.cancel(lock.event)
        if lock.flight is not None:
            self._settle(lock.flight, station, fate)

    def _listen_again(self, station: Station, listening: Listening, since_ns: int) -> None:
        """A receiver that is still on hears preambles from `since_ns`."""
        if station.chip.listening is listening:
            listening.since_ns = since_ns
            for flight in self._active:
                mine = station.bank is None or station.bank.station_for(flight.wave) is station
                if mine and flight.record.start_ns < since_ns:
                    self._consider(flight, station)

    def _settle(self, flight: Flight, station: Station, fate: Fate) -> None:
        self._mark(flight, station, fate)
        self._release(flight)

    def _mark(self, flight: Flight, station: Station, fate: Fate) -> None:
        link = self.links.link(flight, station)
        snr_db = self.links.snr_db(link, flight.wave)
        flight.record.receptions[station.name] = Reception(fate, link.power_dbm, snr_db)

    def _mark_truncated(self, flight: Flight, station: Station) -> None:
        """The sender stopped before this receiver, which waits for such frames, could lock."""
        listening = station.chip.listening
        known = station.name in flight.record.receptions
        locked = station.lock is not None and station.lock.flight is flight
        if listening is not None and not known and not locked:
            self._mark(flight, station, Fate.TRUNCATED)

    def _end(self, flight: Flight) -> None:
        self._active.remove(flight)
        self._release(flight)

    def _release(self, flight: Flight) -> None:
        flight.open -= 1
        if flight.open == 0:
            flight.others.clear()  # else every frame would keep all before it alive
            flight.bursts.clear()
            self.records.close(flight.record)


def _chirps_match(sent: Waveform, heard: Waveform) -> bool:
    """Channel within a quarter of the bandwidth, spreading factor, bandwidth and direction of the chirps."""
    mod = sent.modulation
    return (
        mod.sf == heard.modulation.sf
        and mod.bw_hz == heard.modulation.bw_hz
        and sent.iq_inverted == heard.iq_inverted
        and abs(sent.freq_hz - heard.freq_hz) <= 0.25 * mod.bw_hz
    )


def _frames_match(sent: Waveform, heard: Waveform) -> bool:
    """What is agreed on beyond the chirps: sync word and frequency hopping."""
    return sent.sync_word == heard.sync_word and sent.hop_period == heard.hop_period


def _span(station: Station, end_ns: int) -> ListeningSpan:
    """What a station has listened to until now."""
    assert station.chip.listening is not None
    wave = station.chip.listening.wave
    return ListeningSpan(
        station.name, station.since_ns, end_ns, round(wave.freq_hz), wave.modulation, wave.iq_inverted
    )
