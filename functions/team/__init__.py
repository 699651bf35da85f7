"""Handlers of the team layer: one verb_noun module for each function."""
