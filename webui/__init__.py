"""The admin pages a field technician opens on a phone.

In: requests of a browser, and the gateway's REST API, of which this is a client like any other.
Out: server-rendered pages that work without JavaScript and without the internet.
Not here: state, secrets and decisions; all of them are the gateway's.
"""
