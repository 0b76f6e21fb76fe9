"""Latent diffusion: what turns a degraded photo and an instruction into a repaired one.

Apart from diagnosis and correction, which it does not know; `model` alone puts the pieces together.
"""
