"""The protocol's official suite: installed, played, and what it found."""
