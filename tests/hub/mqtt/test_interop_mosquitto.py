"""mosquitto_pub, mosquitto_sub and mosquitto_rr with the options they have, in both versions."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.mqtt.whole import Whole, listening, run, whole_server

PUB, SUB = "mosquitto_pub", "mosquitto_sub"
V5 = ["-V", "mqttv5"]
_names = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with whole_server(tmp_path_factory.mktemp("whole")) as server:
        yield server


@pytest.fixture
def topic(server: Whole) -> str:
    """A topic of its own for each test, so that they can share the server."""
    return f"{server.topic}/t{next(_names)}"


@pytest.fixture(params=["mqttv311", "mqttv5"])
def version(request: pytest.FixtureRequest) -> list[str]:
    return ["-V", request.param]


def publish(server: Whole, *options: str, text: str = "") -> str:
    """mosquitto_pub as thing a, which has to succeed; what it printed."""
    done = run(PUB, *server.login("a"), *options, text=text)
    assert done.returncode == 0, done.stderr
    return done.stdout


def seen(lines: Iterator[str], *wanted: str) -> list[str]:
    """The printed messages among the wanted, until as many have come."""
    found: list[str] = []
    while len(found) < len(wanted):
        line = next(lines)
        if line in wanted:
            found.append(line)
    return found


@pytest.mark.parametrize("qos", ["0", "1", "2"])
@pytest.mark.parametrize("sub_version", ["mqttv311", "mqttv5"])
def test_versions_and_qos_meet(
    server: Whole, topic: str, version: list[str], sub_version: str, qos: str
) -> None:
    with listening(*server.login("b"), "-V", sub_version, "-t", topic, "-q", qos, "-C", "2") as lines:
        publish(server, *version, "-t", topic, "-q", qos, "-m", "one", "--repeat", "2", "-M", "5")
        assert seen(lines, "one", "one") == ["one", "one"]


def test_lines_files_and_whole_input_are_messages(
    server: Whole, topic: str, version: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "payload"
    file.write_text("from a file")
    with listening(*server.login("b"), *version, "-t", topic, "-q", "1") as lines:
        publish(server, *version, "-t", topic, "-q", "1", "-l", text="first\nsecond\n\n")
        publish(server, *version, "-t", topic, "-q", "1", "-f", str(file))
        publish(server, *version, "-t", topic, "-q", "1", "-s", text="whole")
        wanted = ["first", "second", "from a file", "whole"]
        assert seen(lines, *wanted) == wanted


def test_options_of_the_connection_are_taken(server: Whole, topic: str, version: list[str]) -> None:
    publish(server, *version, "-t", topic, "-m", "x", "-k", "5", "-i", "named", "-q", "1", "--nodelay")
    publish(server, *version, "-t", topic, "-m", "x", "-I", "prefix-", "-A", "127.0.0.1", "-d")
    user, key = server.key("a")
    url = f"mqtt://{user}:{key}@127.0.0.1:{server.port()}/{topic}"
    done = run(PUB, *version, "-L", url, "-m", "by address", "-q", "1")
    assert done.returncode == 0, done.stderr


def test_retained_messages_are_shown_filtered_and_removed(
    server: Whole, topic: str, version: list[str]
) -> None:
    for name in ("one", "two"):
        publish(server, *version, "-t", f"{topic}/{name}", "-m", name, "-r", "-q", "1")
    login = [*server.login("b"), *version, "-t", f"{topic}/#"]
    shown = run(SUB, *login, "-F", "%r %t %p", "-C", "2").stdout.split("\n")
    assert sorted(shown) == ["", f"1 {topic}/one one", f"1 {topic}/two two"]
    assert run(SUB, *login, "-T", f"{topic}/one", "-v", "-C", "1").stdout == f"{topic}/two two\n"
    assert run(SUB, *login, "-R", "-W", "1").stdout == ""
    with listening(*login, "--retained-only") as lines:  # ends with the first message that is not
        assert sorted(seen(lines, "one", "two")) == ["one", "two"]
        publish(server, *version, "-t", f"{topic}/one", "-m", "live", "-q", "1")
        assert "live" not in list(lines)
    publish(server, *version, "-t", f"{topic}/one", "-n", "-r", "-q", "1")
    assert run(SUB, *login, "-N", "-C", "1").stdout == "two"
    assert run(SUB, *login, "--remove-retained", "--retained-only", "-W", "2").returncode in (0, 27)
    assert run(SUB, *login, "-W", "1").stdout == ""


def test_several_topics_and_unsubscribing(server: Whole, topic: str, version: list[str]) -> None:
    topics = ["-t", f"{topic}/a", "-t", f"{topic}/b/+", "-t", f"{topic}/c/#", "-U", f"{topic}/a"]
    with listening(*server.login("b"), *version, *topics, "-q", "1", "-F", "got %t") as lines:
        # Wait until it has unsubscribed as well: the server answers in order.
        for name in ("a", "b/x", "b", "c", "c/d/e"):
            publish(server, *version, "-t", f"{topic}/{name}", "-m", "x", "-q", "1")
        wanted = [f"got {topic}/{name}" for name in ("b/x", "c", "c/d/e")]
        assert seen(lines, *wanted) == wanted


def test_a_kept_session_brings_what_was_missed(server: Whole, topic: str, version: list[str]) -> None:
    client = [*server.login("b"), *version, "-i", f"keeper-{topic[-6:]}", "-c", "-q", "1", "-t", topic]
    if version == V5:
        client += ["-x", "3600"]
    assert run(SUB, *client, "-E").returncode == 0
    publish(server, *version, "-t", topic, "-m", "missed", "-q", "1")
    publish(server, *version, "-t", topic, "-m", "missed too", "-q", "2")
    assert run(SUB, *client, "-C", "2").stdout == "missed\nmissed too\n"
    # Negative control: without -c the session and what it would miss are gone.
    fresh = [*server.login("b"), *version, "-i", f"keeper-{topic[-6:]}", "-t", topic, "-q", "1"]
    assert run(SUB, *fresh, "-E").returncode == 0
    publish(server, *version, "-t", topic, "-m", "unheard", "-q", "1")
    assert run(SUB, *client, "-W", "1").stdout == ""


def test_will_of_a_killed_client_arrives(server: Whole, topic: str, version: list[str]) -> None:
    will = ["--will-topic", topic, "--will-payload", "gone", "--will-qos", "1", "--will-retain"]
    if version == V5:
        will += ["-D", "will", "content-type", "text/plain", "-D", "will", "user-property", "why", "killed"]
    with listening(*server.login("a"), *version, "-t", server.topic + "/elsewhere", *will):
        pass
    shown = "%r %q %p %C" if version == V5 else "%r %q %p"
    found = run(SUB, *server.login("b"), *V5, "-t", topic, "-q", "1", "-C", "1", "-F", shown).stdout
    assert found.split() == ["1", "1", "gone", *(["text/plain"] if version == V5 else [])]


def test_properties_of_a_message_arrive(server: Whole, topic: str) -> None:
    options: list[str] = []
    for name, value in (
        ("payload-format-indicator", "1"),
        ("message-expiry-interval", "120"),
        ("content-type", "text/plain"),
        ("response-topic", "answers/here"),
        ("correlation-data", "c0rr"),
    ):
        options += ["-D", "publish", name, value]
    options += [
        "-D",
        "publish",
        "user-property",
        "unit",
        "Cel",
        "-D",
        "publish",
        "user-property",
        "unit",
        "K",
    ]
    publish(server, *V5, "-t", topic, "-m", "21", "-q", "1", "-r", *options)
    shown = "%p|%C|%R|%D|%F|%E"
    found = run(SUB, *server.login("b"), *V5, "-t", topic, "-q", "1", "-C", "1", "-F", shown).stdout.strip()
    payload, content_type, answer, correlation, form, expiry = found.split("|")
    assert (payload, content_type, answer, correlation, form) == (
        "21",
        "text/plain",
        "answers/here",
        "c0rr",
        "1",
    )
    assert 100 <= int(expiry) <= 120
    pairs = run(SUB, *server.login("b"), *V5, "-t", topic, "-q", "1", "-C", "1", "-F", "%P").stdout
    assert "unit:Cel" in pairs
    assert "unit:K" in pairs


def test_properties_of_the_connection_are_taken(server: Whole, topic: str) -> None:
    options = ["-D", "connect", "receive-maximum", "1", "-D", "connect", "maximum-packet-size", "2000"]
    options += ["-D", "connect", "user-property", "a", "b", "-D", "connect", "topic-alias-maximum", "5"]
    options += [
        "-D",
        "subscribe",
        "subscription-identifier",
        "42",
        "-D",
        "subscribe",
        "user-property",
        "c",
        "d",
    ]
    with listening(*server.login("b"), *V5, "-t", topic, "-q", "1", *options, "-F", "id %S %p") as lines:
        publish(server, *V5, "-t", topic, "-m", "x" * 3000, "-q", "1")  # larger than it takes
        publish(server, *V5, "-t", topic, "-m", "small", "-q", "1", "-D", "publish", "topic-alias", "1")
        assert seen(lines, "id 42 small") == ["id 42 small"]


def test_a_session_ends_when_its_expiry_says(server: Whole, topic: str) -> None:
    client = [*server.login("b"), *V5, "-i", f"short-{topic[-6:]}", "-c", "-q", "1", "-t", topic]
    assert run(SUB, *client, "-x", "0", "-E").returncode == 0
    publish(server, *V5, "-t", topic, "-m", "missed", "-q", "1")
    assert run(SUB, *client, "-x", "0", "-W", "1").stdout == ""


def test_a_shared_subscription_divides_the_messages(server: Whole, topic: str) -> None:
    shared = ["-t", f"$share/pair/{topic}", "-q", "1"]
    with (
        listening(*server.login("a"), *V5, *shared) as one,
        listening(*server.login("b"), *V5, *shared) as two,
    ):
        wanted = [f"n{n}" for n in range(10)]
        publish(server, *V5, "-t", topic, "-q", "1", "-l", text="\n".join(wanted) + "\n")
        publish(server, *V5, "-t", topic, "-q", "1", "-l", text="end\n" * 8)
        halves = []
        for lines in (one, two):
            half = []
            for line in lines:
                if line == "end":
                    break
                if line in wanted:
                    half.append(line)
            halves.append(half)
        assert sorted(halves[0] + halves[1]) == sorted(wanted)
        assert all(halves)


def test_a_request_is_answered_over_its_response_topic(server: Whole, topic: str) -> None:
    """mosquitto_rr publishes with a response topic and waits for the answer there."""
    answers = f"{topic}/answers"
    with listening(
        *server.login("b"), *V5, "-t", f"{topic}/requests", "-q", "1", "-F", "asked %R %p"
    ) as lines:
        asked = subprocess.Popen(
            [
                "mosquitto_rr",
                *server.login("a"),
                *V5,
                "-t",
                f"{topic}/requests",
                "-e",
                answers,
                "-m",
                "?",
                "-q",
                "1",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert seen(lines, f"asked {answers} ?") == [f"asked {answers} ?"]
        publish(server, *V5, "-t", answers, "-m", "!", "-q", "1")
        assert asked.communicate(timeout=60)[0] == "!\n"


# Refusals


def test_refusals_are_told(server: Whole, topic: str) -> None:
    login = server.login("a")
    for version, words in ((["-V", "mqttv311"], "bad user name or password"), (V5, "Not authorized")):
        done = run(PUB, *login[:-1], "a key nobody has, long", *version, "-t", topic, "-m", "x")
        assert done.returncode != 0
        assert any(word in done.stderr + done.stdout for word in (words, "Bad User Name or Password")), done
    done = run(PUB, *server.login("stranger"), *V5, "-t", topic, "-m", "x", "-q", "1")
    assert "Not authorized" in done.stderr + done.stdout
    for version in (["-V", "mqttv311"], V5):
        done = run(SUB, *server.login("stranger"), *version, "-t", topic, "-C", "1")
        assert "All subscription requests were denied" in done.stderr
    done = run(PUB, *login, "-V", "mqttv31", "-t", topic, "-m", "x")
    assert done.returncode != 0


def test_dollar_topics_are_for_administrators(server: Whole, version: list[str]) -> None:
    user, token = server.key("admin")
    admin = ["-h", "127.0.0.1", "-p", str(server.port()), "-u", user, "-P", token]
    done = run(SUB, *admin, *version, "-t", "$SYS/#", "-C", "1", "-W", "30", "-v")
    assert done.stdout.startswith("$SYS/"), done
    done = run(SUB, *server.login("a"), *version, "-t", "$SYS/#", "-C", "1", "-W", "2")
    assert "denied" in done.stderr
    done = run(PUB, *admin, *version, "-t", f"{server.topic}", "-m", "x", "-q", "1")
    assert done.returncode != 0 or "not authorized" in (done.stderr + done.stdout).lower()


# TLS


@pytest.mark.parametrize("tls", ["tlsv1.2", "tlsv1.3"])
def test_password_over_tls(server: Whole, topic: str, version: list[str], tls: str) -> None:
    secure = [
        *server.login("a", "tls"),
        *version,
        "--cafile",
        str(server.authority.cert),
        "--tls-version",
        tls,
    ]
    done = run(PUB, *secure, "-t", topic, "-m", "sealed", "-q", "1", "-r")
    assert done.returncode == 0, done.stderr
    assert run(SUB, *secure, "-t", topic, "-C", "1").stdout == "sealed\n"


@pytest.mark.parametrize("way", ["tls", "mutual"])
def test_a_client_certificate_needs_no_password(
    server: Whole, topic: str, version: list[str], way: str
) -> None:
    pair = server.authority.issue("certified-1")
    secure = [*server.certified(pair, way), *version]
    done = run(PUB, *secure, "-t", topic, "-m", "certified", "-q", "1", "-r")
    assert done.returncode == 0, done.stderr
    assert run(SUB, *secure, "-t", topic, "-C", "1").stdout == "certified\n"


def test_certificates_that_are_not_good_enough(server: Whole, topic: str) -> None:
    publishing = ["-t", topic, "-m", "x", "-q", "1"]
    issue = server.authority.issue
    for name, pair, way in (
        ("none where one is needed", None, "mutual"),
        ("another authority's", server.stranger.issue("certified-1"), "mutual"),
        ("expired", issue("certified-1", from_days=-9, to_days=-1), "mutual"),
        ("made for servers", issue("certified-1", server=True), "mutual"),
        ("of no thing", issue("nobody"), "mutual"),
        ("of no thing, no password either", issue("nobody"), "tls"),
        ("no certificate and no password", None, "tls"),
    ):
        for _ in range(2):  # the first and the second time
            done = run(PUB, *server.certified(pair, way), *V5, *publishing)
            assert done.returncode != 0, name
    # The client's own check, so that the tests above mean something: another authority is not trusted.
    wrong = ["--cafile", str(server.stranger.cert)]
    assert run(PUB, *server.login("a", "tls"), *wrong, *publishing).returncode != 0
    assert run(PUB, *server.login("a", "tls"), *publishing).returncode != 0  # plain against TLS


def test_a_certificate_does_not_lend_its_name(server: Whole, topic: str) -> None:
    """With the certificate of one thing and the key of another, the client is refused or is who the key says."""
    pair = server.authority.issue("certified-1")
    user, key = server.key("stranger")
    done = run(PUB, *server.certified(pair), "-u", user, "-P", key, *V5, "-t", topic, "-m", "x", "-q", "1")
    assert "ot authorized" in done.stderr + done.stdout or done.returncode != 0
