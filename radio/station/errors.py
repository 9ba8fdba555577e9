"""What can go wrong in the Basics Station protocol."""

from radio.errors import RadioError


class StationError(RadioError):
    """A message that does not fit the protocol; the only error the codec lets out."""
