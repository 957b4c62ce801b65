"""The live page: what is collected, judged and sent to every open browser."""
