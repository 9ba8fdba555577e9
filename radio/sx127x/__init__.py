"""Driver for Semtech SX1276/77/78/79, in LoRa mode.

`registers` is the chip's map and the pure computation of its contents, `chip` one chip over SPI,
`modem` what a gateway does with it: receive for ever, send at a microsecond. No threads and no clock here.
"""
