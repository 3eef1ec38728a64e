"""The verbs of the command line. Heavy imports stay inside their bodies."""
