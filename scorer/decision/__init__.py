"""From a batch of vectors to decisions with reasons."""
