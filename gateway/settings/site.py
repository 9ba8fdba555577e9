"""Settings of the gateway itself, of its pages and its people."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.settings.base import Port, Section


class GatewaySection(Section, frozen=True, kw_only=True):
    """This gateway."""

    name: Annotated[str, Meta(max_length=64, description="shown in the pages and sent upstream")] = "fluxgate"
    eui: Annotated[
        str,
        Meta(
            pattern="^([0-9a-fA-F]{16})?$",
            description="gateway EUI-64, 16 hex digits; empty: from the network card",
        ),
    ] = ""
    data_dir: Annotated[str, Meta(description="databases and secrets live here")] = "/var/lib/fluxgate"
    runtime_dir: Annotated[str, Meta(description="claim code and status file, for local tools")] = (
        "/run/fluxgate"
    )
    region: Annotated[str, Meta(description="regional parameters: EU868, US915, ...")] = "EU868"
    region_profile: Annotated[
        str, Meta(description="whose values to take where sources disagree (docs/regions.md); empty: most")
    ] = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class WebuiSection(Section, frozen=True, kw_only=True):
    """The admin pages (`fluxgate webui`)."""

    host: str = "127.0.0.1"
    port: Port = 8000
    api_url: Annotated[str, Meta(description="HTTP door of the gateway; empty: from [http]")] = ""
    trusted_hosts: Annotated[
        tuple[str, ...],
        Meta(description="names the pages answer to; empty: any. Guards against DNS rebinding"),
    ] = ()
    secure_cookies: Annotated[bool, Meta(description="the pages are reached over TLS only")] = False
    key_file: Annotated[
        str,
        Meta(
            description="the pages' key, so that the gateway believes them whom they ask for;"
            " empty: /etc/fluxgate/pages.key where it exists, else pages.key in data_dir"
        ),
    ] = ""


class PeopleSection(Section, frozen=True, kw_only=True):
    """Accounts of people."""

    second_factor_for: Annotated[
        tuple[Literal["technician", "admin"], ...],
        Meta(description="roles that only look until signing in takes a code of an authenticator app"),
    ] = ()
