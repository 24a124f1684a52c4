"""Attacks on this project, with production settings and every protection on."""
