"""DrQ-v2 (arXiv:2107.09645; facebookresearch/drqv2@c0c650b)."""
