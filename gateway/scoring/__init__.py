"""From a request to the pipeline's decision."""
