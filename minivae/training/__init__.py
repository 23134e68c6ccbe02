"""Training: batches.py draws a batch, loop.py trains, evaluation.py and metrics.py judge.

workers.py judges on several cores.  ranks.py trains on several machines, by blocks.py.  Adam is in
optim.py, and saving is in saving/.
"""
