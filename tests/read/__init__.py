"""Tests of kjcm/read."""
