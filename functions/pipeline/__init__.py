"""Handlers of the pipeline layer: one verb_noun module for each function."""
