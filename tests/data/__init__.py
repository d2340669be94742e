"""Tests of mindformers_vit.data."""
