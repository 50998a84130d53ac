"""A trained model as a Hugging Face directory, which transformers and vLLM load."""
