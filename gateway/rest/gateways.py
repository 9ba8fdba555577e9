"""`fluxgate gateways`: gateways that this computer keeps by name, each with the authority of its certificate."""

from __future__ import annotations

import hashlib
import ssl
from typing import Annotated

import httpx
import typer

from gateway.rest.client import TIMEOUT_S, UNREACHABLE, USAGE, ApiError
from gateway.rest.common import CALLER, Caller, JsonOption, address, command, sentences
from gateway.rest.kept import Gateways, Known
from gateway.rest.naming import complete_gateways
from gateway.rest.output import Column, show

gateways = typer.Typer(help="Gateways that this computer keeps by name.", no_args_is_help=True)

AUTHORITY = "/certs/authority"
NameArgument = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_gateways)]


@gateways.command("list")
def list_gateways(as_json: JsonOption = False) -> None:
    """List the kept gateways."""
    rows = [
        {"name": each.name, "url": each.url, "ca": each.ca, "default": "*" if each.default else ""}
        for each in Gateways().all()
    ]
    show(rows, [Column(key.upper(), key) for key in ("name", "url", "ca", "default")], as_json=as_json)


@command(gateways, "add")
def add(
    name: str,
    where: Annotated[str, typer.Argument(metavar="ADDRESS", help="Such as https://gateway.local:8443.")],
    fingerprint: Annotated[
        str, typer.Option(help="SHA-256 of its authority's certificate, as the gateway shows it.")
    ] = "",
    default: Annotated[
        bool, typer.Option("--default", help="Commands go to it where none is named.")
    ] = False,
) -> None:
    """Keep a gateway. Of an https one the authority is fetched, shown, and trusted for this gateway from now on."""
    known = Known(name, address(where), CALLER.get(Caller()).ca, default)
    if known.url.startswith("https://") and not known.ca:
        certificate = fetched(known.url)
        found = fingerprint_of(certificate)
        if fingerprint and _plain(fingerprint) != _plain(found):
            raise ApiError(
                f"the authority of {known.url} has the fingerprint {found}, not the one you gave: "
                "somebody may stand between you and the gateway",
            )
        if not fingerprint:
            typer.echo(f"authority of {known.url}, SHA-256:\n{found}")
            typer.confirm("Is it what the gateway shows?", abort=True)
        known = Known(name, known.url, str(Gateways().authority(name, certificate)), default)
    Gateways().keep(known)
    typer.echo(f"{name} is {known.url}")


@gateways.command("use")
def use(name: NameArgument) -> None:
    """Let commands go to this gateway where none is named."""
    with sentences():
        Gateways().use(name)


@gateways.command("remove")
def remove(name: NameArgument) -> None:
    """Forget a gateway."""
    with sentences():
        Gateways().forget(name)


def fetched(url: str) -> str:
    """The certificate of the gateway's authority as PEM, from a connection that nothing vouches for yet.

    Raises ApiError.
    """
    try:
        answer = httpx.get(url + AUTHORITY, verify=False, timeout=TIMEOUT_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ApiError(f"no gateway answers at {url} ({error})", UNREACHABLE) from None
    if not answer.is_success or "BEGIN CERTIFICATE" not in answer.text:
        raise ApiError(f"{url} tells no authority of its own: name a file with one by --ca", USAGE)
    return answer.text


def fingerprint_of(certificate: str) -> str:
    """SHA-256 of a certificate in PEM, as gateways and browsers write it. Raises ApiError."""
    try:
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.strip())).hexdigest().upper()
    except ValueError:
        raise ApiError("what came is no certificate", USAGE) from None
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def _plain(fingerprint: str) -> str:
    return fingerprint.replace(":", "").replace(" ", "").upper()
