"""The people's side of LoRaWAN devices: what is registered, in which words it is asked for, and how it is shown.

In: forms, QR texts, delivery lists, sealed files, and what the network server knows of each device.
Out: device configurations for `gateway.lorawan.server`, writes for the log, views without keys for the REST API.
Not here: frames, sessions and MAC (`gateway.lorawan`), pages (`webui`), what was wrong with a frame
(`gateway.diagnosis`).
"""
