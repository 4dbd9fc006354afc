"""Environments of Reverie: one file per suite, over gymnasium."""
