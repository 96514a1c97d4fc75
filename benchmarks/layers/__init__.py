"""Time and memory of the layer and of networks made with it, beside everything a user might have instead."""
