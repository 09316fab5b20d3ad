"""Loaders of public data: each gives tensors, its split and a SHA-256 of exactly what it gives."""
