"""From radio frames to durable, authorised messages, and from there upstream.

In: GWMP datagrams of one or more packet forwarders, and downlink orders of users and applications.
Out: SenML messages appended to the hub's log, join-accepts and downlinks, batches for upstream brokers.
Not here: radio hardware (`radio`), storage, access decisions and doors (`hub`), pages (`webui`).
"""

__version__ = "0.1.0"
