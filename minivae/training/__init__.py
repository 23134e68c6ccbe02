"""Training: batches.py draws a batch, loop.py trains, evaluation.py and metrics.py judge.

ranks.py trains on several machines, by blocks.py.  Adam is in optim.py, and saving is in saving/.
"""
