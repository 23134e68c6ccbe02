"""Learning by doing: write the backward pass yourself, and have it graded; find planted faults."""
