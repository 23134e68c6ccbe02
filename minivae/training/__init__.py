"""Training: batches.py draws a batch, loop.py trains, evaluation.py and metrics.py judge.

Adam is in optim.py, and saving is in saving/.
"""
