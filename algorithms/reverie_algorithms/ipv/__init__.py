"""Pre-training of a latent video model on in-the-wild video (arXiv:2305.18499)."""
