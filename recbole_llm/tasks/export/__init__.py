"""Export of a trained model to a self-contained folder."""
