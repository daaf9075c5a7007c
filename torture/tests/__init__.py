"""That the campaigns see what they are to see."""
