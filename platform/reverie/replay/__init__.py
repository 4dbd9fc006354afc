"""Where rows are kept and drawn from, and how many of each; without torch and without Ray."""
