"""Training: the optimiser, the minibatches, the loop and its checkpoints."""
