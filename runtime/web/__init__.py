"""What the two web servers share."""
