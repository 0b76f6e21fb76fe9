"""Pixels, and nothing that is learned: files, color, sizes and tiles.

Apart so that everything that learns can take clean (B, 3, H, W) tensors for granted.
"""
