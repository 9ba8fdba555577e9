import pytest

from gateway.upstream.config import UpstreamMqttConfig


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"protocol": "3.1"}, "protocol", id="old protocol"),
        pytest.param({"qos": 0}, "qos", id="QoS 0 promises nothing"),
        pytest.param({"cert_file": "client.pem"}, "go together", id="certificate without key"),
        pytest.param({"tls": False, "ca_file": "ca.pem"}, "tls", id="CA without TLS"),
        pytest.param({"inflight": 0}, "inflight", id="no window"),
        pytest.param({"keepalive_s": 0}, "keepalive", id="keepalive off"),
        pytest.param({"topic": "channels/+/messages"}, "wildcards", id="wildcard"),
        pytest.param({"topic": "devices/{dev_eui}"}, "dev_eui", id="unknown field"),
        pytest.param({"corrections": "time/{channel}"}, "corrections knows no", id="a field of messages"),
        pytest.param({"corrections": "time/#"}, "wildcards", id="wildcard for corrections"),
        pytest.param({"gaps": "gone/{boot}"}, "gaps knows no", id="a field that gaps have not"),
        pytest.param({"gaps": "gone/+"}, "wildcards", id="wildcard for gaps"),
        pytest.param({"refusal_hold_s": -1}, "refusal_hold_s", id="negative patience"),
        pytest.param({"topic": "devices/{}"}, "topic knows no", id="nameless field"),
    ],
)
def test_a_setting_that_can_never_work_is_refused_at_once(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        UpstreamMqttConfig(name="cloud", host="broker.example", **settings)


def test_tls_is_on_unless_told_otherwise() -> None:
    assert UpstreamMqttConfig(name="cloud", host="broker.example").tls


def test_the_password_does_not_show_in_a_repr() -> None:
    config = UpstreamMqttConfig(name="cloud", host="broker.example", password="secret-word")
    assert "secret-word" not in repr(config)
