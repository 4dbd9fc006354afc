"""What Dreamers share: latent states, imagination, balanced losses, pictures of imagined futures.

The `elu_` files and `resnet` are the parts of DreamerV2 that other papers build on.
"""
