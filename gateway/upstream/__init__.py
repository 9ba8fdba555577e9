"""From the durable log to a broker in the cloud, through outages.

In: committed messages of `hub.log`, read after a cursor of their own.
Out: the same messages over MQTT, each with the identity it was born with; the cursor follows the PUBACKs.
Not here: a queue. What waits for the cloud is the log itself; an outage is a cursor that lags.
`relay` moves the cursor, `sink` says what a destination must offer, `mqtt` is one.
"""
