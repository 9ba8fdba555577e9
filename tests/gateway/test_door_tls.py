"""What keeps the TLS of the doors right while they are open: names, time, files, and a clock that is not set."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from gateway.door_tls import DoorTls
from gateway.errors import StartFailed
from gateway.hosts import own_names
from gateway.settings import TlsSection
from hub.authority import profile
from hub.authority.doorkeeper import Doorkeeper
from hub.authority.entrance import Entrance, listening_socket
from hub.authority.profile import Names
from hub.hub import Hub
from hub.message import TimeQuality
from tests.hub.pki import Authority

NOW = 1_800_000_000.0
NAMES = Names(("gw.local", "localhost"), ("127.0.0.1",))

FIB = """Main:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 192.168.7.20
        /32 host LOCAL
     |-- 192.168.7.255
        /32 link BROADCAST
Local:
     |-- 192.168.7.20
        /32 host LOCAL
"""
INET6 = """fd000000000000000000000000000005 02 40 00 80 wlan0
fe80000000000000ba27ebfffe12cd34 02 40 20 80 wlan0
00000000000000000000000000000001 01 80 10 80 lo
damaged
"""


def test_names_and_addresses_are_those_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fib_trie").write_text(FIB)
    (tmp_path / "if_inet6").write_text(INET6)
    monkeypatch.setattr("socket.gethostname", lambda: "Gate-7.plant.example")
    names = own_names(("Pumps.Lan", "10.9.9.9", "no name"), tmp_path)
    assert names.hosts == ("gate-7.local", "gate-7.plant.example", "localhost", "pumps.lan")
    assert names.addresses == ("127.0.0.1", "::1", "10.9.9.9", "192.168.7.20", "fd00::5")
    nothing = own_names((), tmp_path / "nowhere")
    assert nothing.addresses == ("127.0.0.1", "::1")
    assert own_names().hosts, "also on this machine"


class Clocked:
    """A hub whose clock is what the test says."""

    def __init__(self, folder: Path) -> None:
        self.now_s, self.quality = NOW, TimeQuality.NTP
        self.hub = Hub.open(folder, clock=lambda: (int(self.now_s * 1e9), self.quality))


def shown_by(tls: DoorTls) -> x509.Certificate:
    """The certificate that a client of now is shown."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server)
    far = tls.context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    encoded = near.getpeercert(True)
    assert encoded is not None
    return x509.load_der_x509_certificate(encoded)


def test_the_gateways_own_certificate_is_made_anew_without_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        one = Clocked(tmp_path)
        names = NAMES
        tls = DoorTls(TlsSection(), one.hub, lambda: names)
        await tls.open()
        first = shown_by(tls)
        await tls.look()
        assert shown_by(tls) == first
        names = NAMES._replace(addresses=("127.0.0.1", "192.168.7.20"))
        await tls.look()
        await asyncio.sleep(0)
        second = shown_by(tls)
        assert profile.names_of(second).addresses == ("127.0.0.1", "192.168.7.20")
        one.now_s += 300 * profile.DAY_S
        one.quality = TimeQuality.RESTORED
        await tls.look()
        assert shown_by(tls) == second, "nothing ends by a clock that may be wrong"
        one.quality = TimeQuality.GNSS
        await tls.look()
        await asyncio.sleep(0)
        assert profile.end_of(shown_by(tls)) > one.now_s + 390 * profile.DAY_S
        await one.hub.close()

    asyncio.run(main())


def test_a_certificate_in_files_is_read_again_when_it_changes(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def main() -> None:
        one = Clocked(tmp_path / "data")
        pair, other = authority.server(), authority.server("other")
        section = TlsSection(cert_file=str(pair.cert), key_file=str(pair.key))
        tls = DoorTls(section, one.hub, lambda: NAMES)
        await tls.open()
        first = shown_by(tls)
        for mine, theirs in ((pair.cert, other.cert), (pair.key, other.key)):
            mine.write_bytes(theirs.read_bytes())
            os.utime(mine, (NOW, NOW))
        await tls.look()
        assert shown_by(tls) != first
        pair.cert.write_text("damaged\n")
        os.utime(pair.cert, (NOW + 1, NOW + 1))
        before = shown_by(tls)
        await tls.look()  # said in the log; what was shown goes on
        assert shown_by(tls) == before
        assert one.hub.registry.authority.issuing is not None, "things get certificates all the same"
        assert one.hub.registry.authority.server is None
        await one.hub.close()

    asyncio.run(main())


def test_a_wrong_setting_keeps_the_gateway_from_starting(tmp_path: Path) -> None:
    async def main() -> None:
        one = Clocked(tmp_path)
        for section, words in (
            (TlsSection(cert_file="/nowhere.pem", key_file="/nowhere.key"), "nowhere.pem cannot be read"),
            (TlsSection(client_ca_file="/nowhere.ca"), "nowhere.ca cannot be read"),
        ):
            with pytest.raises(StartFailed, match=words):
                await DoorTls(section, one.hub, lambda: NAMES).open()
        await one.hub.close()

    asyncio.run(main())


CLOCKS: list[Any] = [
    # A certificate for a day from NOW on; the clock, its quality, the setting, and whether it comes in.
    pytest.param(0.5, TimeQuality.NTP, "accept", True, id="right"),
    pytest.param(3, TimeQuality.NTP, "accept", False, id="over"),
    pytest.param(3, TimeQuality.GNSS, "accept", False, id="over by GNSS"),
    pytest.param(3, TimeQuality.RESTORED, "accept", True, id="over, clock in doubt"),
    pytest.param(-20_000, TimeQuality.UNSET, "accept", True, id="1970"),
    pytest.param(-20_000, TimeQuality.NTP, "accept", False, id="before its begin"),
    pytest.param(0.5, TimeQuality.UNSET, "refuse", False, id="clock in doubt, refused"),
    pytest.param(0.5, TimeQuality.NTP, "refuse", True, id="right, others refused"),
]


@pytest.mark.parametrize(("days", "quality", "undated", "comes_in"), CLOCKS)
def test_dates_count_while_the_clock_is_right(
    tmp_path: Path, days: float, quality: TimeQuality, undated: Any, *, comes_in: bool
) -> None:
    """Over a real connection: OpenSSL's own clock is the machine's, years off all of these."""

    async def main() -> None:
        one = Clocked(tmp_path)
        hub = one.hub
        thing, _ = hub.registry.create_thing("pump")
        tls = DoorTls(TlsSection(undated=undated), hub, lambda: NAMES)
        await tls.open()
        made = hub.registry.certificates.issue(thing.id, NOW, "users/u", life_s=profile.DAY_S)
        (tmp_path / "thing.pem").write_text(made.chain + made.key)
        one.now_s, one.quality = max(1000.0, NOW + days * profile.DAY_S), quality
        seen: list[str] = []
        told: list[Any] = []

        class Door(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                transport.close()

        keeper = Doorkeeper(hub, tls.context, "mqtt")

        def make(shown: Any) -> asyncio.Protocol:
            told.append(shown)
            return Door()

        way_in = Entrance(tls.context, keeper.judge, lambda address, why: seen.append(why))
        listener = listening_socket("127.0.0.1", 0, 4)
        way_in.listen(listener, make)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        client.load_cert_chain(tmp_path / "thing.pem")
        port = listener.getsockname()[1]
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
            await reader.read()
            writer.close()
        await way_in.close()
        assert (told[0].refusal == "") is comes_in is (told[1].refusal == ""), told
        assert told[0].unchecked is (comes_in and quality in (TimeQuality.UNSET, TimeQuality.RESTORED))
        assert seen == []
        assert hub.audit.flush(gathered=True)
        with hub.audit.reader() as reading:
            lines = [line for line in reading.lines("n > ?", (0,), 100) if line.kind == "certificate"]
        flagged = [line for line in lines if line.outcome == "allowed"]
        assert len(flagged) == told[0].unchecked, "once, however often it comes"
        assert any(line.outcome == "refused" for line in lines) is not comes_in
        await hub.close()

    asyncio.run(main())
