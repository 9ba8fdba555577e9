"""Registering a device with what tools have that work on a data directory. The gateway's own way, with profiles and
notes, is `gateway.devices.registration`."""

from gateway.devices.registration import Registered, register

__all__ = ["Registered", "register"]
