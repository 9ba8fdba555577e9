"""Commands of `fluxgate` that manage a running gateway, on this machine or another, through its REST API.

In: words on a command line. Out: requests, and answers as tables or JSON. They know no more than any other client.
Not here: anything that works on a gateway's files.
"""
