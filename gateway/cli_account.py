"""`fluxgate account`: what helps at the machine itself who cannot sign in any more; and `fluxgate claim-code`."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli_common import ConfigOption, fail, load
from gateway.settings import Config

app = typer.Typer(
    help="Let somebody in who cannot sign in any more; at the machine, as root.", no_args_is_help=True
)

EmailArgument = Annotated[str, typer.Argument(help="The account's e-mail address.")]


@app.command("list")
def list_accounts(config: ConfigOption = None) -> None:
    """Who has an account, and in which role."""
    for each in _ask(config, do="list")["people"]:
        typer.echo(f"{each['email']}\t{each['role']}{', with a code' if each['totp'] else ''}")


@app.command()
def password(email: EmailArgument, config: ConfigOption = None) -> None:
    """Set a new password, which also ends the account's sessions and pauses. Asks for it, or reads a line of a pipe."""
    if sys.stdin.isatty():
        chosen = typer.prompt("New password", hide_input=True, confirmation_prompt="The same again")
    else:
        chosen = sys.stdin.readline().rstrip("\n")
    _ask(config, do="password", email=email, password=chosen)
    typer.echo(f"{email} signs in with the new password from now on, and is signed out everywhere.")


@app.command()
def unlock(
    email: Annotated[
        str, typer.Argument(help="The account's e-mail address; without one, all pauses end.")
    ] = "",
    config: ConfigOption = None,
) -> None:
    """End the pauses after wrong passwords."""
    _ask(config, do="unlock", email=email)
    typer.echo(f"Nobody has to wait before signing in{' as ' + email if email else ''}.")


@app.command("totp-off")
def totp_off(email: EmailArgument, config: ConfigOption = None) -> None:
    """Ask an account for no code any more, where app and recovery codes are lost."""
    was_on = _ask(config, do="totp-off", email=email)["was_on"]
    typer.echo("No code is asked for any more." if was_on else "No code was asked for before either.")


@app.command("sign-out")
def sign_out(email: EmailArgument, config: ConfigOption = None) -> None:
    """End all sessions of an account."""
    typer.echo(f"{_ask(config, do='sign-out', email=email)['ended']} sessions ended.")


def claim_code(
    config: ConfigOption = None,
    new: Annotated[
        bool, typer.Option("--new", help="Another code; one printed before stops working.")
    ] = False,
    qr: Annotated[
        bool, typer.Option("--qr", help="Also a QR code that opens the claim page with the code.")
    ] = False,
    url: Annotated[str, typer.Option(help="Address of the pages in the QR code; else this machine's.")] = "",
) -> None:
    """Print the one-time code that makes the first visitor of the pages their owner."""
    from gateway.status import CLAIM_FILE

    settings = load(config)
    folder = Path(settings.gateway.runtime_dir)
    path = folder / CLAIM_FILE
    if new:
        code = _asked(folder, do="claim-code", new=True).get("code") or ""
    else:
        try:
            code = path.read_text().strip()
        except FileNotFoundError:
            code = ""
        except PermissionError:
            fail(f"{path} may only be read by root: try `sudo fluxgate claim-code`")
        if not code and _is_waiting(folder):
            fail(
                "a code was printed before the last start and still works, but nobody here knows it any more;"
                " `fluxgate claim-code --new` makes another"
            )
    if not code:
        fail("there is no claim code: the gateway is claimed already, or its process is not running")
    typer.echo(code)
    if qr:
        import segno

        address = (url or pages_url(settings)).rstrip("/")
        segno.make(f"{address}/claim?code={code}", error="m", micro=False).terminal(compact=True)
        typer.echo(f"{address}/claim?code={code}")


def pages_url(settings: Config) -> str:
    """Where a phone on the same network finds the pages, as far as this machine knows."""
    scheme = "https" if settings.webui.secure_cookies else "http"
    host = settings.webui.host
    if host in ("", "0.0.0.0", "::", "127.0.0.1", "localhost", "::1"):
        host = own_address()
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{settings.webui.port}"


def own_address() -> str:
    """The address that others on the network know this machine by; its name where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks the kernel for the way
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _is_waiting(folder: Path) -> bool:
    """Whether a gateway runs that nobody owns, and does not know its code."""
    from gateway.console import ConsoleError, Request, ask

    try:
        answer = ask(folder, Request(do="claim-code"))
    except ConsoleError:
        return False
    return not answer.get("claimed") and not answer.get("code")


def _ask(config: Path | None, **request: Any) -> dict[str, Any]:
    return _asked(Path(load(config).gateway.runtime_dir), **request)


def _asked(folder: Path, **request: Any) -> dict[str, Any]:
    """What the gateway answers; ends the command with a sentence where it does not."""
    from gateway.console import ConsoleError, Request, ask

    try:
        return ask(folder, Request(**request))
    except ConsoleError as error:
        fail(str(error))
