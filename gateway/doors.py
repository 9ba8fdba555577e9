"""The doors of a gateway: the listeners that the settings ask for, opened in order and closed in reverse."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from gateway.door_tls import DoorTls
from gateway.errors import StartFailed
from gateway.pages_key import pages_key
from gateway.settings import Config
from hub.coap.door import CoapDoor
from hub.errors import Invalid
from hub.http import limits as http_limit
from hub.http.app import HttpApp
from hub.http.door import HttpDoor
from hub.http.proxies import Proxies
from hub.hub import Hub
from hub.mqtt import MqttDoor
from hub.mqtt import limits as mqtt_limit

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Doors:
    """All that listen. `http` is the first of `listeners`; the others show the same app."""

    mqtt: MqttDoor
    http: HttpDoor
    listeners: tuple[HttpDoor, ...]
    coap: CoapDoor | None
    mqtt_tls_port: int = 0
    https_port: int = 0
    workshop_port: int = 0
    mqtt_proxy_port: int = 0
    mqtt_proxy_tls_port: int = 0
    tls: DoorTls | None = None  # to be run

    def __str__(self) -> str:
        named = {
            "MQTT": self.mqtt.port,
            "MQTT over TLS": self.mqtt_tls_port,
            "MQTT behind a proxy": self.mqtt_proxy_port,
            "MQTT over TLS behind a proxy": self.mqtt_proxy_tls_port,
            "HTTP": self.http.port,
            "HTTPS": self.https_port,
            "HTTP for clients of 2017": self.workshop_port,
            "CoAP": self.coap.port if self.coap else 0,
        }
        return ", ".join(f"{name} on {port}" for name, port in named.items() if port)


def mqtt_limits(config: Config) -> mqtt_limit.Limits:
    """The bounds of the MQTT door, with those that have a setting."""
    asked = config.mqtt
    return mqtt_limit.Limits(publish_rate=asked.publish_rate, publish_burst=asked.publish_burst)


def http_limits(config: Config) -> http_limit.Limits:
    """The bounds of the HTTP app, with those that have a setting."""
    asked = config.http
    return http_limit.Limits(
        publish_rate=asked.publish_rate,
        publish_burst=asked.publish_burst,
        stranger_rate=asked.stranger_rate,
        stranger_burst=asked.stranger_burst,
    )


@contextlib.asynccontextmanager
async def opened(
    config: Config, hub: Hub, app: HttpApp, mqtt: MqttDoor, coap: CoapDoor
) -> AsyncIterator[Doors]:
    """Listen on everything that is set. Raises StartFailed where a port or a certificate cannot be used."""
    tls_of_doors = await door_tls(config, hub)
    context = tls_of_doors.context if tls_of_doors else None
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(mqtt.close)
        with address_in_use("mqtt.port", config.mqtt.port):
            await mqtt.start()
        mqtt_tls_port = 0
        if config.mqtt.tls_port:
            with address_in_use("mqtt.tls_port", config.mqtt.tls_port):
                mqtt_tls_port = await mqtt.listen(config.mqtt.tls_host, config.mqtt.tls_port, ssl=context)
        proxy_port, proxy_tls_port = (
            _behind_proxy(config, mqtt, app.proxies, key, port, tls)
            for key, port, tls in (
                ("mqtt.proxy_port", config.mqtt.proxy_port, None),
                ("mqtt.proxy_tls_port", config.mqtt.proxy_tls_port, context),
            )
        )
        listeners = []
        for key, host, port, tls in (
            ("http.port", config.http.host, config.http.port, None),
            ("http.tls_port", config.http.tls_host, config.http.tls_port, context),
        ):
            if not port and key != "http.port":
                continue
            door = HttpDoor(hub, app, host, port, ssl=tls)
            with address_in_use(key, port):
                await door.start()
            stack.push_async_callback(door.close)
            listeners.append(door)
        https_port = listeners[-1].port if config.http.tls_port else 0
        _name(config, hub, listeners[0].port)
        workshop = await _workshop(config, hub, app)
        if workshop is not None:
            stack.push_async_callback(workshop.close)
            listeners.append(workshop)
        if config.coap.enabled:
            stack.push_async_callback(coap.close)
            with address_in_use("coap.port", config.coap.port):
                await coap.start()
        yield Doors(
            mqtt,
            listeners[0],
            tuple(listeners),
            coap if config.coap.enabled else None,
            mqtt_tls_port,
            https_port,
            workshop.port if workshop else 0,
            proxy_port,
            proxy_tls_port,
            tls_of_doors,
        )


def _name(config: Config, hub: Hub, http_port: int) -> None:
    """Say in tokens and metadata where this gateway is found. Raises StartFailed."""
    issuer = config.oauth.issuer or f"http://localhost:{http_port}"
    pages_url = config.oauth.pages_url or config.oauth.issuer or f"http://localhost:{config.webui.port}"
    try:
        hub.oauth.configure(issuer, pages_url)
    except Invalid as error:
        raise StartFailed(f"[oauth] {error.reason}") from None


def _behind_proxy(
    config: Config, mqtt: MqttDoor, proxies: Proxies, key: str, port: int, tls: ssl.SSLContext | None
) -> int:
    """Listen for proxies that pass MQTT on; returns the port, 0 where none is set. Raises StartFailed."""
    if not port:
        return 0
    if not proxies:
        raise StartFailed(f"{key} is for proxies: name them in http.trusted_proxies")
    with address_in_use(key, port):
        return mqtt.listen_behind_proxy(config.mqtt.proxy_host, port, proxies.trusts, ssl=tls)


async def _workshop(config: Config, hub: Hub, app: HttpApp) -> HttpDoor | None:
    """The listener of clients of 2017; None where it is not wanted, or where something else has its port.

    It is there for old clients, without being asked for: it must not keep the gateway from starting.
    """
    if not config.http.workshop_port:
        return None
    door = HttpDoor(hub, app, config.http.host, config.http.workshop_port)
    try:
        await door.start()
    except OSError as error:
        log.warning(
            "clients of 2017 find nothing at port %d (%s); http.workshop_port sets another, 0 for none",
            config.http.workshop_port,
            error.strerror or error,
        )
        return None
    return door


def trusted_proxies(config: Config) -> Proxies:
    """Whose word is taken for where a request comes from. Raises StartFailed."""
    try:
        return Proxies(config.http.trusted_proxies, config.http.forwarded_header, pages_key=pages_key(config))
    except ValueError as error:
        raise StartFailed(
            f"http.trusted_proxies: {error}; name addresses such as 10.0.0.5, or 10.0.0.0/24"
        ) from None


async def door_tls(config: Config, hub: Hub) -> DoorTls | None:
    """What the TLS listeners show and ask for; None where there are none. Raises StartFailed."""
    if not (config.mqtt.tls_port or config.http.tls_port or config.mqtt.proxy_tls_port):
        return None
    opened = DoorTls(config.tls, hub)
    await opened.open()
    return opened


@contextlib.contextmanager
def address_in_use(key: str, port: int) -> Iterator[None]:
    """Say which setting to change where a port cannot be had. Raises StartFailed."""
    try:
        yield
    except OSError as error:
        raise StartFailed(f"cannot listen on port {port} ({error.strerror or error}); set {key}") from error
