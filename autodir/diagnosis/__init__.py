"""What is wrong with a photo: the CLIP quality model, its calibration, the user's own plan, the guard."""
