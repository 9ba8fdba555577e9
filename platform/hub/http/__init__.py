"""The HTTP door: messages in and out over REST, and the management of things, channels and users.

In: requests from nodes (thing key), people and apps (user token). Out: JSON, SenML, event streams, problem documents.
Order: door.py (listener) -> connection.py (one client) -> app.py (dispatcher) -> publish.py (the hot path) or the
endpoints of the other modules.
Not here: any decision about access; every endpoint asks `hub.access` or demands a role from the registry's users.
"""

from hub.http.idempotency import MIGRATIONS

__all__ = ["MIGRATIONS"]
