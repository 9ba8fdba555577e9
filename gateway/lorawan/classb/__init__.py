"""Class B: beacons at GPS times, and downlinks in the ping slots between them (LoRaWAN 1.0.3, 8 to 16; 1.0.4, 9 to 14).

In: what the gateways say of their time, which sessions listen in ping slots, and the time as an argument.
Out: beacons and downlinks as orders by GPS time, and in words why there are none.
Not here: MAC commands of class B (`mac`, `maclayer`), the sending itself (`radio`), and timers (`downlink_clock`).
"""
