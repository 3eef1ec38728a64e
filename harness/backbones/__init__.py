"""Pretrained models behind one interface, one folder each."""
