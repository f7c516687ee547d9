"""One module for each implementation, run as `python PATH/workers NAME` by that one's interpreter."""
