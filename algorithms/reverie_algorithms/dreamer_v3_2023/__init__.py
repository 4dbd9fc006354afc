"""DreamerV3 as published in 2023 (arXiv:2301.04104v1; danijar/dreamerv3@8fa35f8)."""
