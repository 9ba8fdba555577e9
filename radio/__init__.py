"""LoRa frames between the antenna and a network server.

In: register-level access to SX127x modules, interrupt edges, and GWMP orders to transmit.
Out: received frames with kernel time stamps, as GWMP rxpk; transmissions started at their microsecond.
Not here: anything inside a LoRaWAN frame; this package never verifies, decrypts or decodes one.
"""
