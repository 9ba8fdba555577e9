"""Why a device does not work, in a technician's words: from what came of its frames to findings with a remedy.

In: outcomes of the LoRaWAN server, the fate of downlinks, the time. Out: `Finding`s, kept per device, bounded and
searchable, and a list of the devices that are heard and not registered.
Not here: deciding what a frame is worth (gateway.lorawan does) and showing it (gateway.diagnosis_api, webui).
"""
