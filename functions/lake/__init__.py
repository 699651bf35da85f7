"""The lake's domain: what several functions share. No handler stands here."""
