"""Memory of training and inference: traced by category, predicted, and checked against allocators.

``categories`` and ``report`` hold the words and the results and import no torch.
"""
