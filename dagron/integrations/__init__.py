"""What connects dagron to other libraries: a module each, and an extra of the same name."""
