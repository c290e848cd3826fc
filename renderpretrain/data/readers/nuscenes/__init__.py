"""nuScenes as it is published, and the info files that detection code bases make of it."""
