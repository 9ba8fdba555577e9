"""A GNSS receiver on a serial line: where the gateway stands and what time it is.

In: NMEA 0183 sentences (and UBX answers about leap seconds), and edges of its pulse-per-second line.
Out: a position for `stat`, and labelled edges for `radio.timebase`.
Not here: the time itself, which `radio.timebase` keeps, with or without a receiver.
"""
