"""The MQTT door: things publish and subscribe over MQTT 3.1.1 and 5.0.

In: bytes of connections. Out: messages into the durable log, acknowledged after the commit, and messages of the
log to whoever subscribed. The codec (`decoder`, `bodies`, `properties`, `replies`) and the state of a `session`
are pure; `intake` and `delivery` meet the log; `sessions`, `retained`, `sharing` are rows in its database
(`store`), and so are `wills`; `entry`, `publishing`, `subscribing` decide about packets, `rights` about what lives;
`listening`, `connection` and `door` move the bytes.
Not here: who may do what (`hub.access`), what a topic means (`hub.topics`), the messages (`hub.log`).
"""

from hub.mqtt.door import MqttDoor
from hub.mqtt.limits import Limits
from hub.mqtt.store import MIGRATIONS

__all__ = ["MIGRATIONS", "Limits", "MqttDoor"]
