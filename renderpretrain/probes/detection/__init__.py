"""Detection: the boxes of a scene, found from above by a small head and judged as nuScenes judges them."""
