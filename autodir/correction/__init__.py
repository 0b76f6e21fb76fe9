"""The structural correction module (SCM): what the autoencoder lost, taken back from the degraded photo."""
