"""Recordings prepared for training elsewhere: as one folder, or as tar files of many frames each."""
