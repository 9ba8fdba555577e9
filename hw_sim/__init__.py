"""Simulated hardware: SX127x chips, the air between them, LoRaWAN end nodes and a Raspberry Pi's pins.

In: SPI transfers and pin accesses of any driver, in process or over a socket, and scenarios in TOML.
Out: what real chips would answer, edge events, and a count of every frame on the air and its fate.
Not here: a radio driver; the unmodified one of `radio` runs on the fake `spidev`, `gpiod` and `RPi.GPIO`.
"""
