"""Training: the optimiser, the minibatches and the loop."""
