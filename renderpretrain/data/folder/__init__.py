"""Scenes from a folder of raw files and one ``frames.json``: reading, order, doubts, and checks."""
