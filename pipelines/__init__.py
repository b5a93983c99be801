"""Shapes of pipelines, one file each."""
