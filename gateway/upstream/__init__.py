"""From the durable log to brokers and clusters elsewhere, through outages.

In: committed messages of `hub.log`, read after a cursor of their own for each destination.
Out: the same messages over MQTT or to NATS JetStream, each with the identity it was born with; the cursor follows
the acknowledgements. Not here: a queue. What waits for the cloud is the log itself; an outage is a cursor that lags.
`relay` moves the cursor, `sink` says what a destination must offer, `mqtt` and `nats` are two, `pipeline` and
`refusals` what they share; `suspicion` finds the message over which a connection breaks. `gateway.nats_source` is
the other way round.
"""
