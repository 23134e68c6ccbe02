"""Files: an archive of arrays, a saved model, a checkpoint, and what a folder of a run holds."""
