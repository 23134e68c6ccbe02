"""Files: archive.py writes one whole, model_file.py holds a model, checkpoint.py a training.

runs.py finds and opens the folder that `minivae train` leaves.
"""
