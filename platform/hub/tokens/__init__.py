"""What somebody may show instead of a thing's key or a session: API keys and signed tokens, each with scopes.

In: the value after `Bearer`, or an MQTT password. Out: the principal it stands for, whose `grant` names the row of the
registry that bounds what he may. Signed tokens are checked by one `verifier` and are only as good as their grant, so
that removing the row ends everything at once. Rights are decided elsewhere: `hub.access`.
"""
