"""LoRa Basics Station: the protocol between a concentrator and its LoRaWAN network server (LNS), over WebSockets.

In come frames of the modules and an LNS's orders, out go its messages (`jreq`, `updf`, `dntxed`, ...) and orders to
the modules. `messages` is the codec, used by both ends; `client` the protocol without a socket; `server` the
thread with the connection. It runs no command for a server and offers it no shell, whatever the protocol knows.
"""
