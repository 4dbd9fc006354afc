"""Formats of video that can be imported, one file each."""
