"""The CoAP door: things publish, read and observe over CoAP (RFC 7252) with UDP.

In: datagrams. Out: messages into the durable log, acknowledged (2.04) after the commit; last values; notifications.
`packets`, `admission`, `blocks`, `exchanges`, `outgoing` and `request` are pure; `endpoint` is the message layer;
`resource`, `values` and `observers` meet the hub; `oscore` protects (RFC 8613); `door` moves the bytes.
Not here: who may do what (`hub.access`), what a path means (`hub.topics`), the messages (`hub.log`); DTLS.
"""

from hub.coap.door import CoapDoor
from hub.coap.limits import Limits
from hub.coap.oscore import Parameters
from hub.coap.store import MIGRATIONS

__all__ = ["MIGRATIONS", "CoapDoor", "Limits", "Parameters"]
