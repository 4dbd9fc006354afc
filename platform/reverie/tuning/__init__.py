"""Sweeps: a folder of cells, each an ordinary run, worked off here, on Ray or by Slurm."""
