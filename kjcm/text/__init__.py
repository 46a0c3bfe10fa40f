"""Texts to token ids: KoBERT's tokenizer, one trained on the rows, any of Hugging Face; and the token cache."""
