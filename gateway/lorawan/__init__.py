"""LoRaWAN 1.0.x network and join server: frames off the air in, verified uplinks and signed downlinks out.

In: PHYPayloads as GWMP gives them, downlink orders, and the time as an argument.
Out: values (`Joined`, `Uplink`, `Rejected`) with the database writes and the downlink that belong to each.
Not here: sockets, clocks, tasks, the log and the radio. `link` feeds the server, `publish` makes hub
messages.
"""
