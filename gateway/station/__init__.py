"""The LNS for concentrators with LoRa Basics Station: frames and receipts in over TLS, downlinks out; and its CUPS.

In come WebSocket messages of gateways that are known by token or certificate, out go frames to the same receiver
that the GWMP link feeds. `lns` is the protocol without a socket, `plan` what concentrators are told to listen to,
`cups` how they get their addresses and credentials, `door` the listener. It never asks a gateway to run anything.
"""
