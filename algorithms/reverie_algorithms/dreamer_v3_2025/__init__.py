"""DreamerV3 as its code stands since 2025 (doi:10.1038/s41586-025-08744-2)."""
