"""Simulated streets and rooms, with exact ground truth: layouts of solids, their textures, and sensors."""
