"""What is wrong with a photo: CLIP quality model, calibration, the user's own plan, the guard."""
