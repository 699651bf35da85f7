"""Handlers of the foundations layer: one verb_noun module for each function."""
