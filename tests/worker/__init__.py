"""Tests with torch: models, stages and pictures, on the demo weights."""
