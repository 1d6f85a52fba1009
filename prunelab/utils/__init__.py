"""What many rooms need, one home each; it knows nothing of pruning.

checks: choices, whole numbers · paths: data, runs, shipped files · devices · progress · intervals ·
tensors: files that survive · ownership, stopping: of long work · modules: kinds of layers, copies ·
processes: several, under torchrun
"""
