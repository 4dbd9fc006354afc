"""Video data sets: imported once, then read by windows; without torch and without Ray."""
