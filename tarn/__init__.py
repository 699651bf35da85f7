"""Tarn: the command line, and the lake on a laptop. Nothing in here is deployed to AWS."""
