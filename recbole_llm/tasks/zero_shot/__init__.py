"""Training on some data sets, ranking on one that the model has never seen."""
