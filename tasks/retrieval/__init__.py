"""What retrieval tasks share: pairs, head, loss and scores. No task of its own."""
