"""The batch cycle of one worker, from decoding to publication."""
