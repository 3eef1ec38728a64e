"""Mocks and contract suites for those who add methods, tasks and backbones."""
