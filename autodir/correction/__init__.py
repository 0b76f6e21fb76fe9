"""The structural correction module (SCM): what the autoencoder lost, from the degraded photo."""
