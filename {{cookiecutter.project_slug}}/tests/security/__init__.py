"""One file per protection; each tries the attack first."""
