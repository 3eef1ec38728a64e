"""The procedural world: small drawn scenes with captions, questions and boxes."""
