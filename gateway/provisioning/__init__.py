"""A site as one TOML file, brought onto a running gateway over its REST API, again and again without duplicates.

In: a layout (`layout`) and what the gateway has (`state`, read by `look`). Between: a pure plan of steps (`planner`).
Out: the steps, done one after the other by `carry`, with secrets in a file for their owner alone (`keyfile`), or the
gateway's state as a layout (`export`). Not here: anything that the REST API does not offer.
"""
