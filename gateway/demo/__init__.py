"""The whole gateway on simulated hardware, as a newcomer first meets it.

In: a scenario of simulated nodes and radio modules.
Out: a live table on the terminal, and a report that counts each message where it passes.
Not here: anything the product needs; the processes started are the very ones a Raspberry Pi runs.
"""
