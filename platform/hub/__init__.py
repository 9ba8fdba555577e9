"""One durable log of messages, and the doors through which they enter and leave.

In: messages over MQTT, HTTP or straight from the LoRaWAN server, each from an authenticated publisher.
Out: the same messages to subscribers, persistent sessions, upstream cursors and the SenML history.
Not here: LoRaWAN, radio and pages. Every door asks `hub.access`; none decides for itself.
"""
