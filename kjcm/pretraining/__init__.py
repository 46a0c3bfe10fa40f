"""Pretrain an encoder on texts without codes, by predicting hidden tokens."""
