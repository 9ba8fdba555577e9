"""The MQTT door: things publish and subscribe over MQTT 3.1.1.

In: bytes of TCP connections. Out: messages into the durable log, acknowledged after the commit, and
messages of the log to whoever subscribed. `packets`, `replies` (codec) and `session` (state) are pure;
`intake` and `delivery` meet the log; `store` and `retained` are rows in its database; `connection` and `door`
move the bytes.
Not here: who may do what (`hub.access`), what a topic means (`hub.topics`), the messages (`hub.log`).
"""

from hub.mqtt.door import MqttDoor
from hub.mqtt.limits import Limits
from hub.mqtt.store import MIGRATIONS

__all__ = ["MIGRATIONS", "Limits", "MqttDoor"]
