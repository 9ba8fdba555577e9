"""CUPS: the binary answer, credentials that are only sent when they changed, and the whole way over TLS."""

import asyncio
import json
import random
import ssl
import struct
from binascii import crc32
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.settings import Config, StationGatewaySection
from gateway.station.cups import Answer, Cups, decode_request, token_credentials, trust_of
from gateway.station.registry import KnownGateway
from radio.station.errors import StationError
from tests.gateway.station.judge import EUI, OTHER_TOKEN, TOKEN, Field
from tests.hub.pki import Authority

Site = Any
GATEWAY = KnownGateway(bytes.fromhex(EUI), "roof", TOKEN)


def read(body: bytes) -> tuple[str, str, bytes, bytes, bytes, bytes]:
    """An answer as Basics Station reads it: lengths of 1, 1, 2, 2, 4 and 4 bytes, little endian."""
    parts = []
    for form in ("<B", "<B", "<H", "<H", "<I", "<I"):
        (length,) = struct.unpack_from(form, body)
        start = struct.calcsize(form)
        parts.append(body[start : start + length])
        assert len(parts[-1]) == length
        body = body[start + length :]
    assert body == b""
    return parts[0].decode(), parts[1].decode(), parts[2], parts[3], parts[4], parts[5]


def files_of(credentials: bytes) -> tuple[bytes, bytes, bytes]:
    """Trust, certificate and key as Basics Station parts them: by the lengths of the DER."""
    (length,) = struct.unpack(">H", credentials[2:4])
    trust, rest = credentials[: length + 4], credentials[length + 4 :]
    assert rest[:4] == bytes(4), "no certificate"
    return trust, b"", rest[4:]


def crc_of(trust: bytes, certificate: bytes, key: bytes) -> int:
    """What Basics Station says of its files: an absent one counts as four zero bytes."""
    crc = 0
    for content in (trust, certificate, key):
        crc = crc32(content or bytes(4), crc)
    return crc


def request(**changes: Any) -> bytes:
    """As Basics Station 2.0.6 writes it."""
    said = {
        "router": "b827:ebff:fe12:3456",
        "cupsUri": "https://old.example:443",
        "tcUri": None,
        "cupsCredCrc": 1,
        "tcCredCrc": 2,
        "station": "2.0.6(rpi/std) 2022-01-17 10:41:07",
        "model": "rpi",
        "package": "1.0.0",
        "keys": [],
    }
    return json.dumps(said | changes).encode()


def test_an_answer_without_changes_is_fourteen_zero_bytes() -> None:
    assert Answer().encode() == bytes(14)


def test_token_credentials_are_those_of_the_things_stack() -> None:
    """The vector of its TestTokenCredentials, but for the scheme that ours always has."""
    expected = b"LETS NOT ENCRYPT" + bytes(4) + b"Authorization: Bearer token\r\n"
    assert token_credentials(b"LETS NOT ENCRYPT", "token") == expected


def test_what_changed_is_sent_and_nothing_else() -> None:
    trust = b"\x30\x82\x00\x05trust"
    cups = Cups(trust, "https://new.example:8887", "wss://new.example:8887")
    told = cups.answer(decode_request(request()), GATEWAY)
    cups_uri, tc_uri, cups_cred, tc_cred, signature, update = read(told.encode())
    assert (cups_uri, tc_uri) == ("https://new.example:8887", "wss://new.example:8887")
    assert cups_cred == tc_cred
    assert (signature, update) == (b"", b"")
    assert files_of(tc_cred) == (trust, b"", f"Authorization: Bearer {TOKEN}\r\n".encode())
    now = {
        "cupsUri": cups_uri,
        "tcUri": tc_uri,
        "cupsCredCrc": crc_of(*files_of(cups_cred)),
        "tcCredCrc": crc_of(*files_of(tc_cred)),
    }
    assert cups.answer(decode_request(request(**now)), GATEWAY) == Answer()
    again = cups.answer(decode_request(request(**now | {"tcCredCrc": 0})), GATEWAY)
    assert again.changes == ["tc_credentials"]


def test_without_settings_nothing_is_ever_changed() -> None:
    assert Cups().answer(decode_request(request()), GATEWAY) == Answer()
    certificate_only = KnownGateway(bytes.fromhex(EUI))
    assert Cups(b"trust").answer(decode_request(request()), certificate_only).changes == []


@pytest.mark.parametrize(
    "settings",
    [
        {"cups_uri": "http://x"},
        {"tc_uri": "ws://x"},
        {"tc_uri": "wss://" + "x" * 300},
        {"cups_uri": "https://\xe4"},
    ],
)
def test_addresses_that_no_answer_can_carry_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="address"):
        Cups(**settings)


def test_damaged_requests_raise_only_station_error() -> None:
    rng = random.Random(7)
    valid = request()
    read = 0
    for _ in range(5_000):
        data = bytearray(valid)
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            decode_request(bytes(data[: rng.choice((len(data), rng.randrange(len(data))))]))
            read += 1
        except StationError:
            pass
    assert read > 100


def test_a_token_is_changed_without_a_visit(
    station_site: Site, station_config: Config, authority: Authority
) -> None:
    """The rotation of docs/station.md: the old token fetches the new one, and both are good meanwhile."""
    new = "a-new-token-for-this-gateway"
    station = msgspec.structs.replace(
        station_config.station,
        trust_file=str(authority.cert),
        uri="wss://127.0.0.1:1",
        gateway=(StationGatewaySection(eui=EUI, token=new, token_before=TOKEN),),
    )
    config = msgspec.structs.replace(station_config, station=station)

    async def main() -> None:
        async with station_site(config) as s, client(s) as http:
            old = {"authorization": f"Bearer {TOKEN}"}
            answer = await http.post("/update-info", content=request(), headers=old)
            assert answer.status_code == 200
            _, tc_uri, cups_cred, tc_cred, _, _ = read(answer.content)
            trust, _, line = files_of(tc_cred)
            assert x509.load_der_x509_certificate(trust).subject.rfc4514_string() == "CN=authority"
            name, _, value = line.decode().rstrip("\r\n").partition(": ")
            told = {name: value}
            assert (await s.discover(token=told["Authorization"]))[
                "uri"
            ] == f"wss://127.0.0.1:1/gateway/{EUI}"
            assert "uri" in await s.discover(token=old["authorization"]), "until it is removed"
            now = {"tcUri": tc_uri, "cupsCredCrc": crc32(cups_cred), "tcCredCrc": crc32(tc_cred)}
            assert (await http.post("/update-info", content=request(**now), headers=told)).content == bytes(
                14
            )
            assert s.door.counters["cups_updates"] == 1

    asyncio.run(main())


def client(s: Field, pair: Any = None) -> httpx.AsyncClient:
    context = s.trusting(pair)
    assert isinstance(context, ssl.SSLContext)
    return httpx.AsyncClient(
        verify=context, base_url=f"https://127.0.0.1:{s.door.port}", trust_env=False, timeout=10
    )


def test_requests_that_are_answered_with_a_refusal(station_site: Site) -> None:
    async def main() -> None:
        async with station_site() as s, client(s) as http:
            mine = {"authorization": f"Bearer {TOKEN}"}
            for expected, method, path, content, headers in (
                (401, "POST", "/update-info", request(), {}),
                (401, "POST", "/update-info", request(), {"authorization": "Bearer wrong-token-of-nobody"}),
                (403, "POST", "/update-info", request(), {"authorization": OTHER_TOKEN}),
                (400, "POST", "/update-info", b"{", mine),
                (400, "POST", "/update-info", request(router="zz"), mine),
                (413, "POST", "/update-info", b"x" * 9000, mine),
                (405, "GET", "/update-info", b"", mine),
                (404, "POST", "/elsewhere", b"", mine),
                (200, "POST", "/update-info", request(), mine),
            ):
                answer = await http.request(method, path, content=content, headers=headers)
                assert answer.status_code == expected, (method, path, answer.text)

    asyncio.run(main())


def test_a_certificate_asks_the_cups_too(station_site: Site, authority: Authority) -> None:
    async def main() -> None:
        async with station_site() as s, client(s, authority.issue(EUI)) as http:
            answer = await http.post("/update-info", content=request())
            assert (answer.status_code, answer.content) == (200, bytes(14))

    asyncio.run(main())


def test_the_certificate_to_trust_is_sent_in_der(authority: Authority, tmp_path: Path) -> None:
    der = x509.load_pem_x509_certificate(authority.cert.read_bytes()).public_bytes(Encoding.DER)
    assert trust_of(authority.cert) == der
    (tmp_path / "no.pem").write_text("nothing")
    for file in ("no.pem", "none.pem"):
        with pytest.raises(ValueError, match=file):
            trust_of(tmp_path / file)
