"""The generation core beside Hugging Face's, on the same weights and the same work."""
