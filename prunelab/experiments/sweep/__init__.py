"""Sweeps: many replays, side by side or on a cluster.

definition: YAML · points: what it consists of · work: how much that is · board, status: how far it
is · storage: where it is kept · task: what a worker does · in_order, on_dask: who runs it · run:
`run_sweep` · compare: what came of it
"""
