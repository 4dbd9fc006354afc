"""What agents of any kind share: saving, optimizers, distributions, observations, layers."""
