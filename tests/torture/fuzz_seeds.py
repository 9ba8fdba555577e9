"""Valid inputs that the fuzzer starts from, and words of each protocol that it puts in."""

from __future__ import annotations

import cbor2

from hub import wire
from hub.coap.packets import encode
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON, Message, Properties
from radio import gwmp
from radio.lora import LoRaModulation

from . import mqtt_client as client

CHANNEL = "a3f6c1b2-0000-4000-8000-000000000001"
KEY = "key-of-the-fuzzed-thing-0001"
# Of a thing that does nothing wrong; it has its own share of streams and queries, and is to get it.
ASKING_KEY = "key-of-the-asking-thing-0001"
TOPIC = f"channels/{CHANNEL}/messages/a/b"
SENML = b'[{"bn":"urn:dev:mac:0011223344556677:","bt":1.6e9,"bu":"Cel","bver":10,"n":"t","v":21.5},{"n":"h","vs":"x"}]'
RFC_CBOR = cbor2.dumps(
    [
        {
            -2: "urn:dev:ow:10e2073a0108006:",
            -3: 1276020076.001,
            -4: "A",
            -1: 10,
            0: "voltage",
            1: "V",
            2: 120.1,
        },
        {0: "current", 6: -5, 2: 1.2},
        {0: "open", 4: True},
        {0: "blob", 8: b"\x01\x02"},
    ]
)


def connects_of(version: int) -> list[bytes]:
    return [
        client.connect("fuzz", "", KEY, version=version),
        client.connect("kept", "", KEY, version=version, clean=False),
        client.connect("will", "", KEY, version=version, will=(TOPIC, b"gone")),
    ]


def packets_of(version: int) -> list[bytes]:
    subscription = f"channels/{CHANNEL}/messages/#"
    packets = [
        client.publish(TOPIC, b"", 0, version=version, retain=True),
        client.publish(TOPIC, b"hello", 1, 1, version=version),
        client.publish(TOPIC, SENML, 2, 2, version=version),
        client.publish(f"channels/{CHANNEL}/messages/senml-json", SENML, 1, 9, version=version, retain=True),
        client.subscribe(3, subscription, 2, version=version),
        client.subscribe(4, f"channels/{CHANNEL}/messages/+/b", 1, version=version),
        client.packet(0xA2, b"\x00\x05" + (b"\x00" if version == 5 else b"") + client.text(subscription)),
        b"\xc0\x00",
        *(client.answer(first, 2) for first in (0x40, 0x50, 0x62, 0x70)),
        b"\xe0\x00",
    ]
    if version == 5:
        name = client.text(TOPIC)
        properties = (
            b"\x01\x01\x02\x00\x00\x00\x3c\x03" + client.text("text/plain") + b"\x08" + client.text("r/t")
        )
        properties += (
            b"\x09" + client.text(b"\x01") + b"\x26" + client.text("k") + client.text("v") + b"\x23\x00\x02"
        )
        packets += [
            client.packet(0x32, name + b"\x00\x07" + bytes((len(properties),)) + properties + b"payload"),
            client.packet(0x82, b"\x00\x08\x02\x0b\x07" + client.text(subscription) + b"\x2e"),
            client.packet(0x82, b"\x00\x09\x00" + client.text(f"$share/g/{subscription}") + b"\x01"),
            client.packet(0x50, b"\x00\x02\x10\x00"),
            client.packet(0xE0, b"\x04\x05\x11\x00\x00\x00\x0a"),
        ]
    return packets


MQTT_WORDS = (
    b"\x00\x04MQTT",
    b"\x00\x06MQIsdp",
    b"\xff\xff\xff\x7f",
    b"\x80\x80\x80\x00",
    b"\xff\xff\xff\xff\xff",
    b"\x00\x00",
    b"\xff\xff",
    b"#",
    b"+",
    b"/",
    b"$share/",
    b"$SYS/#",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\x1f",
    b"\x26\x00\x01a\x00\x01b",
    b"\x0b\x80\x01",
    b"\x11\xff\xff\xff\xff",
    b"\x21\x00\x00",
    b"\x22\xff\xff",
    b"\x15\x00\x01x",
)


FAULTS_5 = (  # whole packets that a server must end the connection for
    client.packet(0x30, client.text("") + b"\x03\x23\x00\x03payload"),  # an alias nobody has set
    client.packet(0xF0, b"\x00\x00"),  # AUTH where no method was agreed on
)


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    fields = {"Host": "gateway", "Authorization": f"Thing {KEY}"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    if body:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def http_seeds(token: str, thing: str) -> tuple[list[bytes], list[bytes]]:
    """Requests that are answered well, each alone; and those rightly refused, or answered by what does not end."""

    def signed_in(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
        return request(
            method, path, body, Authorization=f"Bearer {token}", **({"Content_Type": JSON} | headers)
        )

    messages = f"/channels/{CHANNEL}/messages"
    good = [
        request("POST", f"{messages}/a/b", SENML, Content_Type=SENML_JSON),
        request("POST", messages, RFC_CBOR, Content_Type=SENML_CBOR, Idempotency_Key='"k1"'),
        request("POST", f"/http{messages}", b"x", Content_Type=OCTET_STREAM),
        request("GET", f"{messages}?limit=3&offset=1&name=t&v=1.5&comparator=lt&from=1&to=2e9"),
        request("GET", f"{messages}/a.b?vs=x&vb=true&vd=AQI&format=json", Accept=SENML_CBOR),
        request("GET", f"{messages}?aggregation=max&interval=1h&from=1&to=2e9"),
        request("GET", f"{messages}?start_time=1&end_time=2e9"),
        request("GET", "/version"),
        request("OPTIONS", "/things"),
        signed_in("GET", "/metrics"),
        signed_in("GET", "/things?limit=2&name=f"),
        signed_in("PUT", f"/things/{thing}", b'{"name":"n","metadata":{"a":[1,2.5,null]}}'),
        signed_in("POST", "/groups", b'{"name":"site","description":"d","metadata":{}}'),
        signed_in("GET", "/groups?limit=3&offset=0"),
        signed_in("GET", "/audit?limit=2"),
        signed_in("GET", "/policies"),
        signed_in("GET", "/oauth/consents"),
        signed_in("GET", "/things", If_None_Match='"0", W/"1"'),
        f"POST {messages} HTTP/1.1\r\nHost: g\r\nAuthorization: Thing {KEY}\r\nContent-Type: {OCTET_STREAM}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".encode(),
    ]
    good += [good[0] + good[3], good[0] * 3]  # pipelined
    form = "application/x-www-form-urlencoded"
    other = [
        request("GET", f"{messages}?limit=1", Accept="text/csv"),
        signed_in("PATCH", f"/things/{thing}/key", b"{}", If_Match='"x"'),
        signed_in("POST", "/certs", b'{"thing_id":"' + thing.encode() + b'","csr":"-----BEGIN"}'),
        signed_in("POST", "/keys", b'{"name":"k","scopes":["things:read"],"duration":3600}'),
        signed_in(
            "PUT",
            "/policies/p",
            b'{"subjects":["<.*>"],"actions":["publish"],"resources":["a"],"effect":"deny"}',
        ),
        signed_in(
            "POST", "/oauth/authorizations", b'{"query":"response_type=code&client_id=x&scope=openid"}'
        ),
        request(
            "POST", "/oauth/token", b"grant_type=refresh_token&refresh_token=x&client_id=y", Content_Type=form
        ),
        request(
            "POST", "/oauth/introspect", b"token=x&client_id=y", Content_Type=form, Authorization="Basic eDp5"
        ),
        request("GET", "/auth/check", X_Original_Method="GET", X_Original_URI="/things?limit=1"),
        request(
            "GET", "/things", Forwarded='for="[2001:db8::1]:80";proto=https', X_Forwarded_For="192.0.2.9"
        ),
        request("GET", messages, Accept="text/event-stream", Last_Event_ID="1"),
        request("POST", "/tokens", b'{"email":"a@b.c","password":"x"}', Content_Type=JSON),
        request(
            "POST", "/claim", b'{"code":"AAAA-BBBB","email":"a@b.c","password":"password"}', Content_Type=JSON
        ),
        f"GET {messages} HTTP/1.1\r\nHost: g\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Thing {KEY}"
        "\r\n\r\n".encode()
        + b"\x81\x85\x01\x02\x03\x04\x69\x67\x6f\x68\x6e\x88\x80\x01\x02\x03\x04",
    ]
    return good, other


HTTP_WORDS = (
    b"\r\n",
    b"\r\n\r\n",
    b"Content-Length: 99999999999\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Type: application/json; charset=utf-7\r\n",
    b"Authorization: Basic YTpi\r\n",
    b"Authorization: Bearer \xff\r\n",
    b"Last-Event-ID: 99999999999999999999\r\n",
    b"Accept: */*;q=nan, application/senml+cbor;q=0.1\r\n",
    b"Upgrade: websocket\r\n",
    b"%00",
    b"%2e%2e/",
    b"%ff",
    b"..",
    b"?limit=1e9",
    b"&offset=-1",
    b"&v=nan",
    b"&from=inf",
    b"/stream",
    b"HTTP/2.0",
    b"\x00",
    b"fffffffffffffffff\r\n",
)


WEBSOCKET_SEEDS = (  # frames in the envelope form
    b'{"id":1,"payload":[{"n":"t","v":1}],"content_type":"application/senml+json"}',
    b'{"id":"a","payload":{"door":"open"},"subtopic":"x.y"}',
    b'{"payload_base64":"AQID","idempotency_key":"k"}',
    b'{"id":2,"payload":"x","subtopic":"a/b"}',
    b'{"id":3,"payload_base64":""}',
)
WEBSOCKET_WORDS = (
    b'"id":',
    b'"payload":',
    b'"subtopic":"',
    b'"payload_base64":"',
    b"null",
    b"1e999",
    b"\xff",
    b"[" * 40,
    b"\\ud800",
    b"\x89\x80\0\0\0\0",  # a ping, a close without and with half a code, lengths of each form
    b"\x88\x80\0\0\0\0",
    b"\x88\x81\0\0\0\0\x03",
    b"\x01\x81\0\0\0\0a",
    b"\x81\xfe\xff\xff",
    b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"Sec-WebSocket-Version: 12\r\n",
    b"Sec-WebSocket-Key: =\r\n",
    b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=7\r\n",
    b"Sec-WebSocket-Protocol: mqtt\r\n",
    b"\r\n\r\n",
)


COAP_SEEDS = tuple(
    encode(0, code, 0x1234, b"to", tuple(sorted(options, key=lambda option: option[0])), payload)
    for code, options, payload in (
        (
            2,
            [
                (11, b"channels"),
                (11, CHANNEL.encode()),
                (11, b"messages"),
                (12, b"\x6e"),
                (15, b"auth=" + KEY.encode()),
            ],
            SENML,
        ),
        (
            1,
            [
                (6, b""),
                (11, b"channels"),
                (11, CHANNEL.encode()),
                (11, b"messages"),
                (15, b"auth=" + KEY.encode()),
                (17, b"\x70"),
            ],
            b"",
        ),
        (
            2,
            [
                (11, b"channels"),
                (11, CHANNEL.encode()),
                (11, b"messages"),
                (11, b"a"),
                (15, b"auth=" + KEY.encode()),
                (27, b"\x0e"),
            ],
            bytes(1024),
        ),
        (1, [(11, b".well-known"), (11, b"core"), (23, b"\x06")], b""),
        (5, [(9, b"\x09\x01\x00"), (252, b"12345678")], bytes(20)),
        (3, [(11, b"x"), (3, b"host"), (7, b"\x16\x33"), (60, b"\x01"), (258, b"\x02")], b"x"),
    )
)
COAP_WORDS = (
    b"\xff",
    b"\xd0\x00",
    b"\xe0\xff\xff",
    b"\xdd\xff\xff",
    b"\xbb",
    b"auth=",
    b"\x0f\x0f",
    b"\x61\x45",
    b"\x70\x00",
)


SENML_WORDS = (
    b'"bn":',
    b'"v":',
    b'"vs":',
    b'"vd":"AQ=="',
    b'"t":-1',
    b"1e999",
    b"-0",
    b"null",
    b"\\ud800",
    b"[" * 99,
    b"1" * 400,
)
CBOR_WORDS = (
    b"\x9f",
    b"\xbf",
    b"\xff",
    b"\xfb\x7f\xf0" + bytes(6),
    b"\xc4\x82",
    b"\x81" * 50,
    b"\xd9\xd9\xf7",
    b"\xf9\x7e\x00",
    b"\x1b" + b"\xff" * 8,
    b"\x5b" + b"\xff" * 8,
    b"\xd8\x1c",
    b"\xd8\x1d\x00",
)
CBOR_SEEDS = [RFC_CBOR, cbor2.dumps([{0: "x", 2: cbor2.CBORTag(4, [-1, 215])}])]
JSON_SEEDS = [
    SENML,
    b'[{"bn":"urn:dev:ow:10e2073a01080063","t":1.276020076e+09,"u":"Cel","v":23.1}]',
    b'[{"n":"urn:x","vb":true},{"n":"urn:y","vd":"AQID"},{"n":"urn:z","s":1,"ut":5,"t":-10,"v":0}]',
]


def wire_seeds() -> list[bytes]:
    plain = Message(CHANNEL, "a.b", "thing", "mqtt", SENML_JSON, SENML, 1_700_000_000_000_000_000, 7)
    rich = Message(
        CHANNEL,
        "",
        "thing",
        "mqtt",
        OCTET_STREAM,
        b"\x00",
        1,
        9,
        qos=1,
        retain=True,
        boot="boot",
        properties=Properties(1, 5, "r/t", b"\x01", (("a", "b"),), "text/plain"),
    )
    return [wire.encode(message, "02f10f6a7e0000aa") for message in (plain, rich)]


def gwmp_seeds() -> list[bytes]:
    eui = bytes(range(8))
    rx = gwmp.RxPacket(
        1,
        868_100_000,
        0,
        0,
        1,
        LoRaModulation(7, 125_000),
        -80,
        7.5,
        b"\x40data",
        1_700_000_000_000_000_000,
        5,
    )
    tx = gwmp.TxPacket(1000, False, 868_100_000, 0, 14, LoRaModulation(9, 125_000), True, b"\x60x", False, 8)
    return [
        gwmp.encode(one)
        for one in (
            gwmp.PushData(1, eui, (rx, rx), None),
            gwmp.PullData(2, eui),
            gwmp.PullResp(3, tx),
            gwmp.TxAck(4, eui, gwmp.TxError.TOO_LATE),
            gwmp.PushAck(5),
            gwmp.PullAck(6),
        )
    ] + [
        b"\x02\x00\x07\x00"
        + eui
        + b'{"stat":{"time":"2014-01-12 08:59:28 GMT","lati":46.2,"long":3.2,"alti":145,"rxnb":2}}'
    ]


GWMP_WORDS = (
    b'"rxpk":[',
    b'"tmst":',
    b'"freq":',
    b'"datr":"SF7BW125"',
    b'"datr":50000',
    b'"data":"',
    b"1e999",
    b"-1",
    b"null",
    b"4294967296",
    b"[" * 60,
    b'"stat":{',
)
