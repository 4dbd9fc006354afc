"""From run folders and score files to figures, tables and sentences that compare methods."""
