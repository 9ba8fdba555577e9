"""Simple nodes that are not LoRaWAN: a RadioHead header or a plain payload, mapped to a thing by its address.

In: frames that a module with the private sync word heard, the nodes that are registered, the time. Out: readings
for the node's channel, acknowledgements and frames to send at once.
Not here: any protection. Such frames are neither signed nor encrypted: anyone near can send as any of these nodes.
"""
