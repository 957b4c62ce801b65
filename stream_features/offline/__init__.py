"""The engine over tables: replay and comparison."""
