"""`fluxgate certs`: certificates of things, by the gateway's own authority."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.rest.client import USAGE, ApiError, given
from gateway.rest.common import JsonOption, LimitOption, OffsetOption, api, command, note, read_file, seconds
from gateway.rest.gateways import AUTHORITY, fingerprint_of
from gateway.rest.kept import write_secret
from gateway.rest.naming import NAMED, ThingArgument, completion, part, resolved
from gateway.rest.output import Column, show, show_one

certs = typer.Typer(help="Certificates of things, by the gateway's own authority.", no_args_is_help=True)

COLUMNS = tuple(
    Column(heading, key)
    for heading, key in (
        ("SERIAL", "serial"),
        ("THING", "thing_id"),
        ("STATE", "state"),
        ("ISSUED", "issued_at"),
        ("EXPIRES", "expires_at"),
        ("USED", "used_at"),
    )
)
SerialArgument = Annotated[
    str,
    typer.Argument(
        metavar="SERIAL", autocompletion=completion("/certs?limit=100", "certs", "serial", "serial")
    ),
]
ReasonOption = Annotated[str, typer.Option(help="Why, for lists and the audit log.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="A file in place of standard output.")
]


@command(certs, "issue")
def issue(
    thing: ThingArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Where the files go; the current folder if left out."
        ),
    ] = Path(),
    lasts: Annotated[
        str, typer.Option("--for", metavar="SPAN", help="Such as 365d; 10 years if left out.")
    ] = "",
    csr: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A request (PEM): the private key stays where it is.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a certificate for a thing: NAME.pem, its key NAME.key for you alone, and authority.pem."""
    request = read_file(csr).decode("utf-8", "replace") if csr else ""
    if output.exists() and not output.is_dir():
        raise ApiError(f"{output} is no folder", USAGE)
    with api() as found:
        body = given({"thing_id": resolved(found, "thing", thing), "csr": request})
        if lasts:
            body["ttl_s"] = seconds(lasts, "--for")
        made = found.send("POST", "/certs", body)
    stem = "".join(each if each.isalnum() or each in "-_" else "-" for each in thing) or made["thing_id"]
    files = {f"{stem}.pem": made["certificate"], "authority.pem": made["authority"]}
    if made.get("private_key"):
        files[f"{stem}.key"] = made["private_key"]
    for name, text in files.items():
        write_secret(output / name, text)
    secret = {"certificate", "private_key", "authority"}
    show_one({key: each for key, each in made.items() if key not in secret}, as_json=as_json)
    note(f"written: {', '.join(str(output / name) for name in files)}")


@command(certs, "list")
def list_certificates(
    thing: Annotated[str, typer.Option(metavar="THING", help=f"Only this thing's. {NAMED}")] = "",
    state: Annotated[
        str, typer.Option(help="good, revoked or over.", autocompletion=lambda: ("good", "revoked", "over"))
    ] = "",
    expiring: Annotated[
        str, typer.Option(metavar="SPAN", help="Those that end within this time, such as 30d.")
    ] = "",
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    as_json: JsonOption = False,
) -> None:
    """List certificates, the newest first."""
    with api() as found:
        items, total = found.every(
            "/certs",
            "certs",
            limit=limit,
            offset=offset,
            thing_id=resolved(found, "thing", thing) if thing else "",
            state=state,
            expiring_s=seconds(expiring, "--expiring") if expiring else None,
        )
        show(items, COLUMNS, as_json=as_json, total=total)


@command(certs, "show")
def show_certificate(serial: SerialArgument, as_json: JsonOption = False) -> None:
    """Show a certificate with its text."""
    with api() as found:
        show_one(found.get(f"/certs/{part(serial)}"), as_json=as_json)


@command(certs, "revoke")
def revoke(
    serial: Annotated[str, typer.Argument(metavar="[SERIAL]", help="Of one certificate.")] = "",
    thing: Annotated[str, typer.Option(metavar="THING", help=f"All of this thing's. {NAMED}")] = "",
    reason: ReasonOption = "",
) -> None:
    """Deny a certificate, or all of a thing's; sessions that showed it end at once."""
    if bool(serial) == bool(thing):
        raise ApiError("name either a serial number or --thing", USAGE)
    with api() as found:
        path = f"/certs/{part(serial)}" if serial else f"/things/{resolved(found, 'thing', thing)}/certs"
        found.send("DELETE", path, params=given({"reason": reason}))


@command(certs, "authority")
def authority(output: OutputOption = None) -> None:
    """Print the certificate of the gateway's authority, and its fingerprint on standard error."""
    with api() as found:
        text = found.text(AUTHORITY)
    _out(text, output)
    note(f"SHA-256 {fingerprint_of(text)}")


@command(certs, "deny-list")
def deny_list(output: OutputOption = None) -> None:
    """Print the list of denied certificates (CRL)."""
    with api() as found:
        _out(found.text("/certs/deny-list"), output)


def _out(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_secret(output, text)
