"""Profiles in the REST API."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.devices.asking import problems
from gateway.devices.fleet import AT_A_TIME
from gateway.devices.profiles import ProfileBody, ProfileView, view
from gateway.devices.registration import Registration
from gateway.lorawan.errors import OrderError
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs


class ProfileList(msgspec.Struct):
    profiles: list[ProfileView]
    region: str  # of the gateway


class ProfilesApi:
    """The handlers; `endpoints()` is what the HTTP door mounts."""

    def __init__(self, registration: Registration) -> None:
        self._registration = registration

    def endpoints(self) -> list[Endpoint]:
        """Their part of the route table."""
        one = "/lorawan/profiles/{name}"
        return [
            Endpoint("GET", "/lorawan/profiles", self.profiles, Needs.USER, answers={200: ProfileList}),
            Endpoint("GET", one, self.profile, Needs.USER, answers={200: ProfileView}, refuses=(404,)),
            Endpoint(
                *("PUT", one, self.put, Needs.MANAGER),
                body=ProfileBody,
                answers={200: ProfileView, 201: ProfileView},
                refuses=(400, 507),
            ),
            Endpoint(
                *("DELETE", one, self.remove, Needs.MANAGER),
                answers={204: None},
                refuses=(404, 409, 507),
            ),
        ]

    async def profiles(self, request: Request) -> Response:
        """All profiles."""
        used = await self._used()
        found = [view(profile, used[name]) for name, profile in self._registration.profiles.all.items()]
        return json_response(ProfileList(found, self._registration.server.region.name))

    async def profile(self, request: Request) -> Response:
        """One profile."""
        name = request.path_params["name"]
        found = self._registration.profiles.get(name)
        if found is None:
            raise Problem(404, f"there is no profile {name[:64]!r}")
        return json_response(view(found, (await self._used())[name]))

    async def put(self, request: Request) -> Response:
        """Make or change a profile; a change reaches its devices at once."""
        name, body = request.path_params["name"], await read_json(request, ProfileBody)
        registration = self._registration
        new = registration.profiles.get(name) is None
        with problems():
            profile = body.named(name)
            await registration.put_profile(profile)
        headers = {"location": f"/lorawan/profiles/{name}"} if new else {}
        return json_response(view(profile, (await self._used())[name]), 201 if new else 200, headers)

    async def remove(self, request: Request) -> Response:
        """Remove a profile that no device has."""
        name = request.path_params["name"]
        try:
            await self._registration.remove_profile(name)
        except KeyError:
            raise Problem(404, f"there is no profile {name[:64]!r}") from None
        except OrderError as error:
            raise Problem(409, str(error)) from None
        return Response(status_code=204)

    async def _used(self) -> Counter[str]:
        """How many devices have each."""
        used: Counter[str] = Counter()
        for at, device in enumerate(list(self._registration.server.every_device())):
            used[device.config.profile] += 1
            if at % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
        return used
