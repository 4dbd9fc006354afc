"""DreamerV2 (arXiv:2010.02193), in the form of thuml/HarmonyDream, wmlib-torch."""
