"""JavaScript codecs: TS013 functions and the older names, in a process of their own that can be killed.

In: a codec's source, and calls with bytes or values. Out: JSON, to be mapped by `gateway.codecs.mapping`.
`worker` is our side. `child`, `contexts` and `confine` are the other process: they import nothing but the standard
library, `wire` and the engine, and whatever comes from them is checked like bytes from a stranger.
"""
