"""What models that are pipelines of diffusers have in common: strict loading, Wan's autoencoder, a quiet terminal."""
