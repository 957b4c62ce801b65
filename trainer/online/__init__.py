"""Learning from each label, beside the champion; see `learner`."""
