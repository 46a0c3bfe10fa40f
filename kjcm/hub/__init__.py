"""Models on the Hugging Face hub: upload a run's model, and fetch one."""
