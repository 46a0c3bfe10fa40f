"""Encoders with a classification head, their attention, and packed batches."""
