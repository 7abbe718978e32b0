"""More than one process: torchrun, Ray, and random numbers in each."""
