"""Methods of transfer learning, one folder each."""
