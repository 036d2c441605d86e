"""Repositories: the folders in which transformers, timm and open_clip keep a model."""
