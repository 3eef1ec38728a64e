"""What tasks on sentences share: tables, splits, head, loss and scores. No task of its own."""
