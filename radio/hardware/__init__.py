"""The seam of `radio.seam` on a real Linux board; each class imports its library when it is made."""
