"""Downloads that are kept: jars, Java, Debian packages and the chart library."""
