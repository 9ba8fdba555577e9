"""What the endpoints of devices share: reading addresses and numbers of a request, and errors as problems."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from starlette.requests import Request

from gateway.devices.adopting import KeyDoesNotFit
from gateway.devices.csvfile import FileError
from gateway.devices.fields import FieldErrors
from gateway.devices.qr import LabelError
from gateway.devices.sealed import SealedError
from gateway.lorawan.errors import DeviceExists, OrderError, UnknownDevice
from gateway.lorawan.types import DevEUI
from hub.http.problem import Problem


@contextlib.contextmanager
def problems() -> Iterator[None]:
    """What a person can mend becomes a problem in words; anything else is our own fault and stays what it is."""
    try:
        yield
    except UnknownDevice as error:
        raise Problem(404, str(error)) from None
    except DeviceExists as error:
        raise Problem(409, str(error)) from None
    except (OrderError, FieldErrors, LabelError, FileError, SealedError, KeyDoesNotFit) as error:
        raise Problem(400, str(error)) from None


def dev_eui_of(request: Request) -> DevEUI:
    """The DevEUI in the path. Raises Problem 400."""
    try:
        return DevEUI.parse(request.path_params["dev_eui"])
    except ValueError as error:
        raise Problem(400, str(error)) from None


def number(request: Request, name: str, default: int, most: int) -> int:
    """A whole number of the query. Raises Problem 400."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 18) or int(text) > most:
        raise Problem(400, f"{name} is a whole number of at most {most}")
    return int(text)


def flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "0") in ("1", "true", "yes")
