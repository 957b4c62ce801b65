"""What is downloaded once: jars, Java, Debian packages and the chart library."""
